-- What is blocked by people and by the sensor, as it is meant: the kernel's list is made to agree.
CREATE TABLE block (
    target TEXT PRIMARY KEY,
    body TEXT NOT NULL                      -- as `leuko blocks --json` prints it
) STRICT, WITHOUT ROWID;

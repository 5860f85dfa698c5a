-- Times are microseconds since the epoch; addresses are 16 octets, IPv4 mapped.

-- One attack, as it is known now.
CREATE TABLE incident (
    id TEXT PRIMARY KEY,
    class TEXT NOT NULL,
    severity INTEGER NOT NULL,              -- 0 low to 3 critical
    first_seen INTEGER NOT NULL,
    detected_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    closed_at INTEGER,                      -- nothing while it is open
    events INTEGER NOT NULL,                -- how many there were
    body TEXT NOT NULL,                     -- all of it, as JSON
    verdict TEXT,                           -- confirmed or false_positive
    verdict_reason TEXT,
    muted_by TEXT                           -- a rule that was applied to the past
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_by_time ON incident (detected_at);
CREATE INDEX incident_open ON incident (id) WHERE closed_at IS NULL;

-- Whom it is about.
CREATE TABLE incident_host (
    addr BLOB NOT NULL,
    incident TEXT NOT NULL,
    PRIMARY KEY (addr, incident)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_host_by_incident ON incident_host (incident);

-- What happened to incidents, in order.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    incident TEXT NOT NULL,
    n INTEGER NOT NULL,                     -- of this incident, from 1
    change TEXT NOT NULL,                   -- opened, updated or closed
    rose INTEGER NOT NULL,                  -- whether the severity is higher than before
    at INTEGER NOT NULL,                    -- event time
    kept_at INTEGER NOT NULL,               -- by the wall clock
    body TEXT NOT NULL,                     -- the incident then, as JSON
    UNIQUE (incident, n)
) STRICT;

-- Who is to be told of which event, and whether they were.
CREATE TABLE delivery (
    sink TEXT NOT NULL,
    seq INTEGER NOT NULL,
    fate INTEGER NOT NULL,                  -- 0 pending, 1 delivered, 2 not wanted, 3 given up
    settled_at INTEGER,
    note TEXT,                              -- the digest it was in, or why not
    PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_pending ON delivery (sink, seq) WHERE fate = 0;
CREATE INDEX delivery_dead ON delivery (sink, seq) WHERE fate = 3;
CREATE INDEX delivery_by_event ON delivery (seq);

-- What a sink has to remember of an incident, such as the number of its message.
CREATE TABLE memo (
    sink TEXT NOT NULL,
    about TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (sink, about)
) STRICT, WITHOUT ROWID;

-- What is not reported.
CREATE TABLE mute (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL                      -- as in [[detect.suppress]], as JSON
) STRICT, WITHOUT ROWID;

-- Who did what, when and why.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

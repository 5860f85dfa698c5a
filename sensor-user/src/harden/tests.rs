//! What is planned, and that what is refused is refused: on threads that end, so that other tests keep their rights.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::*;

const USUAL: [Capability; 3] = [Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON, Capability::CAP_BPF];

#[test]
fn only_what_a_configuration_needs_is_kept() {
    let with = |more: &[Capability]| sorted(USUAL.iter().chain(more).copied());
    for (text, capabilities, user) in [
        ("", with(&[]), Some("leuko")),
        ("interfaces = [\"eth0\", \"veth*\"]\nharden.user = \"root\"", with(&[]), None),
        ("harden.user = \"\"\nmetrics.listen = \"off\"", with(&[]), None),
        ("interfaces = [\"blue:eth0\"]\nharden.user = \"nobody\"", with(&[Capability::CAP_SYS_ADMIN]), Some("nobody")),
        ("canary.every = \"1h\"", with(&[Capability::CAP_SYS_ADMIN]), Some("leuko")),
        ("metrics.listen = \"127.0.0.1:1023\"", with(&[Capability::CAP_NET_BIND_SERVICE]), Some("leuko")),
        ("metrics.listen = \"127.0.0.1:0\"", with(&[]), Some("leuko")),
    ] {
        let plan = plan(&toml::from_str(text).unwrap(), false);
        assert_eq!(plan.capabilities, capabilities, "{text}");
        assert_eq!(plan.user.as_deref(), user, "{text}");
        assert_eq!(plan.namespaces, capabilities.contains(&Capability::CAP_SYS_ADMIN), "{text}");
    }
}

#[test]
fn every_file_that_the_configuration_names_is_planned_for() {
    let text = "state_dir = \"/s\"\nkernel.pin = \"/sys/fs/bpf/leuko\"\n[notify]\ntemplates = \"/t\"\n\
                [notify.telegram]\nchat_ids = [1]\ntoken_file = \"/a\"\n\
                [[notify.alertmanager]]\nurl = \"http://a\"\nca_file = \"/b\"\n\
                basic_auth = { username = \"u\", password_file = \"/c\" }\n\
                [[notify.webhook]]\nurl_file = \"/d\"\nsecret_file = \"/e\"\n\
                [[notify.eve]]\nfile = \"/log/eve.json\"\n";
    let mut plan = plan(&toml::from_str(text).unwrap(), true);
    plan.read.sort_unstable();
    assert_eq!(plan.read, ["/a", "/b", "/c", "/d", "/e", "/t"].map(PathBuf::from));
    assert_eq!(plan.written, [Path::new("/log/eve.json")]);
    assert_eq!((plan.own, plan.pins), (vec!["/s".into()], Some("/sys/fs/bpf/leuko".into())));
    assert!(plan.programs);
}

#[test]
fn what_is_not_held_is_not_kept_and_sys_admin_stands_for_the_newer_two() {
    let [net, perf, bpf] = USUAL;
    let admin = Capability::CAP_SYS_ADMIN;
    for (held, kept) in [
        (vec![net, perf, bpf, admin, Capability::CAP_CHOWN], vec![net, perf, bpf]),
        (vec![net, bpf], vec![net, bpf]),
        (vec![net, admin], vec![net, admin]),
        (vec![net, admin, bpf], vec![net, admin, bpf]),
        (vec![], vec![]),
    ] {
        assert_eq!(rights::kept(&USUAL, &held.iter().copied().collect()), kept, "{held:?}");
    }
}

/// What happens on a thread that has been restricted.
fn restricted<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(act).join().unwrap())
}

#[test]
fn system_calls_that_no_sensor_makes_are_refused() {
    for (namespaces, programs) in [(false, false), (true, false), (false, true)] {
        restricted(|| {
            calls::refuse(namespaces, programs).unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
            assert_eq!(nix::unistd::chroot("/"), Err(Errno::EPERM));
            // Nothing at all is asked for, which everybody may have.
            assert_eq!(unshare(CloneFlags::empty()), Err(Errno::EPERM));
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
            let started = Command::new("true").status().map_err(|error| error.kind());
            assert_eq!(started.is_ok(), programs, "{started:?}");
            // The C library finds another way to make a thread.
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
        });
    }
}

#[test]
fn files_of_others_are_out_of_reach_and_those_of_the_plan_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let [own, log, secret, other] = ["own", "log", "secret", "other"].map(|name| dir.path().join(name));
    for folder in [&own, &log, &other] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(&secret, "hunter2").unwrap();
    fs::write(other.join("file"), "").unwrap();
    let plan = Plan {
        own: vec![own.clone()],
        written: vec![log.join("eve.json")],
        read: vec![secret.clone()],
        ..plan(&Config::default(), false)
    };
    restricted(|| {
        if let Err(why) = files::restrict(&plan, None) {
            assert!(why.contains("kernel"), "{why}");
            return;
        }
        fs::write(own.join("leuko.db"), "x").unwrap();
        fs::rename(own.join("leuko.db"), own.join("renamed")).unwrap();
        fs::write(log.join("eve.json"), "x").unwrap();
        fs::remove_file(log.join("eve.json")).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "hunter2");
        fs::read_to_string("/etc/hosts").unwrap();
        File::options().write(true).open("/dev/null").unwrap();
        let refused = [
            fs::write(&secret, "").map(drop),
            File::open(other.join("file")).map(drop),
            File::create(other.join("new")).map(drop),
            fs::read_dir(dir.path()).map(drop),
            fs::create_dir("/etc/leuko-test"),
        ];
        for result in refused {
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied));
        }
    });
}

#[test]
fn a_kernel_is_tried_without_harm() {
    let found = plan(&Config::default(), false).probe();
    assert!(found[1].is_ok(), "{found:?}");
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(status.contains("Seccomp:\t0"), "{status}");
}

/// Runs a test of this module once more by itself, for what it does to the whole process; only root can.
fn alone(name: &str, state: &Path) {
    let name = format!("harden::tests::{name}");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env("LEUKO_TEST_HARDEN", state)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// A folder that everybody may pass, if there is root to judge others.
fn place_of_root() -> Option<tempfile::TempDir> {
    let dir = Uid::effective().is_root().then(|| tempfile::tempdir().unwrap())?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Some(dir)
}

/// What a sensor of root's may have left in a state directory, and what became of it.
struct Left {
    what: &'static str,
    make: fn(&Path),
    /// How many files and folders are given away, or why none is, and what to do.
    expected: Result<usize, [&'static str; 2]>,
}

const LEFT: [Left; 9] = [
    Left { what: "files", make: |dir| fs::write(dir.join("leuko.db"), "").unwrap(), expected: Ok(2) },
    Left {
        what: "lists and the socket of a killed sensor",
        make: |dir| {
            fs::create_dir(dir.join("lists")).unwrap();
            fs::write(dir.join("lists/drop"), "").unwrap();
            drop(UnixListener::bind(dir.join("leuko.sock")).unwrap());
        },
        expected: Ok(3),
    },
    Left {
        what: "a link for lists",
        make: |dir| symlink("/etc", dir.join("lists")).unwrap(),
        expected: Err(["lists in it is no plain file", "nothing in it"]),
    },
    Left {
        what: "a link in lists",
        make: |dir| {
            fs::create_dir(dir.join("lists")).unwrap();
            symlink("/etc/shadow", dir.join("lists/drop")).unwrap();
        },
        expected: Err(["drop in it is no plain file", "nothing in it"]),
    },
    Left {
        what: "another folder",
        make: |dir| fs::create_dir(dir.join("sub")).unwrap(),
        expected: Err(["sub in it is no plain file", "nothing in it"]),
    },
    Left {
        what: "another socket",
        make: |dir| drop(UnixListener::bind(dir.join("other.sock")).unwrap()),
        expected: Err(["other.sock in it is no plain file", "nothing in it"]),
    },
    Left {
        what: "a folder for everybody",
        make: |dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).unwrap(),
        expected: Err(["others may write to it", "nothing in it"]),
    },
    Left {
        what: "lists of root's in a folder of the user's",
        make: |dir| {
            fs::create_dir(dir.join("lists")).unwrap();
            chown(dir, Some(65_534), None).unwrap();
        },
        expected: Err(["nobody may not use", "chown -R nobody:"]),
    },
    Left {
        what: "a folder that nobody else passes",
        make: |dir| fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap(),
        expected: Err(["nobody may not use", "chmod o+x"]),
    },
];

#[test]
fn what_a_sensor_of_root_has_left_is_given_away_and_nothing_else() {
    const NAME: &str = "what_a_sensor_of_root_has_left_is_given_away_and_nothing_else";
    if std::env::var_os("LEUKO_TEST_HARDEN").is_none() {
        if let Some(dir) = place_of_root() {
            alone(NAME, dir.path());
        }
        return;
    }
    let user = User::from_name("nobody").unwrap().unwrap();
    for Left { what, make, expected } in LEFT {
        let place = place_of_root().unwrap();
        let state = place.path().join("state");
        fs::create_dir(&state).unwrap();
        make(&state);
        let plan = Plan { own: vec![state.clone()], ..plan(&Config::default(), false) };
        let owner = fs::metadata(&state).unwrap().uid();
        let gift = plan.gift(&user);
        assert_eq!(fs::metadata(&state).unwrap().uid(), owner, "{what}: asking changes nothing");
        match (gift, expected) {
            (Ok(gift), Ok(many)) => {
                assert_eq!(gift.len(), many, "{what}");
                gift.give(&user).unwrap();
                let again = plan.gift(&user).map(|gift| gift.len());
                assert_eq!(again, Ok(0), "{what}: once is enough");
            }
            (Err(refusal), Err([why, advice])) => {
                assert!(refusal.why.contains(why) && refusal.advice.contains(advice), "{what}: {refusal:?}");
            }
            (gift, _) => panic!("{what}: {gift:?}"),
        }
    }
}

#[test]
fn a_socket_elsewhere_that_a_killed_sensor_has_left_is_no_need() {
    let dir = tempfile::tempdir().unwrap();
    let [socket, file] = ["leuko.sock", "eve.json"].map(|name| dir.path().join(name));
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(&file, "").unwrap();
    let needs = places::of_others(&[], &[socket.clone(), file.clone()]);
    let needs_of = |path: &Path| needs.iter().any(|(needed, _)| needed == path);
    assert!(!needs_of(&socket) && needs_of(&file) && needs_of(dir.path()), "{needs:?}");
}

/// Rights are given up for good, so the case runs in a child.
#[test]
fn a_program_that_is_started_gets_one_right_and_the_user() {
    const NAME: &str = "a_program_that_is_started_gets_one_right_and_the_user";
    if let Some(state) = std::env::var_os("LEUKO_TEST_HARDEN") {
        let config = Config {
            state_dir: state.into(),
            harden: HardenConfig { user: "nobody".to_owned(), ..HardenConfig::default() },
            ..Config::default()
        };
        let report = plan(&config, true).apply();
        assert_eq!((report.gaps.as_slice(), report.user.as_str()), (&[][..], "nobody"));
        let status = Command::new("cat").arg("/proc/self/status").output().unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        for line in ["Uid:\t65534\t65534", "CapEff:\t0000000000001000", "CapBnd:\t000000c000001000", "Seccomp:\t2"] {
            assert!(status.contains(line), "{line}\n{status}");
        }
        return;
    }
    let Some(dir) = place_of_root() else { return };
    alone(NAME, &dir.path().join("state"));
    assert_eq!(dir.path().join("state").metadata().unwrap().uid(), 65_534);
}

//! What a sensor would give up here, and what those that run have given up.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::Check;
use crate::config::Config;
use crate::harden::{self, Capability, DEFAULT_USER, Plan, Refusal};

const AREA: &str = "hardening";

pub fn checks(config: &Config) -> Vec<Check> {
    let plan = harden::plan(config, config.respond.nftables);
    let mut checks = if config.harden.enabled { prospects(&plan) } else { vec![off()] };
    checks.extend(running(Path::new("/proc"), &plan, plan.known_user().as_ref()));
    checks
}

fn off() -> Check {
    Check::ok(AREA, "hardening", "off").warn("harden.enabled = true has the sensor keep only what it needs")
}

fn prospects(plan: &Plan) -> Vec<Check> {
    let may = plan.known_user().map(|user| Uid::effective().is_root().then(|| plan.may_become(&user)));
    let [landlock, seccomp] = plan.probe();
    vec![
        user(plan.user.as_deref(), may),
        Check::ok(AREA, "capabilities", format!("keeps {}", harden::names(&plan.capabilities))),
        ability("landlock", landlock.map(|version| format!("version {version}, files are kept from the sensor"))),
        ability("seccomp", seccomp.map(|_| "system calls are kept from the sensor".to_owned())),
    ]
}

/// `may` is nothing where there is no such user, and says nothing where only root could find out.
fn user(wanted: Option<&str>, may: Option<Option<Result<(), Refusal>>>) -> Check {
    let check = |found: String| Check::ok(AREA, "user", found);
    match (wanted, may) {
        (Some(name), Some(Some(Ok(())))) => check(format!("root becomes {name}")),
        (Some(_), Some(Some(Err(Refusal { why, advice })))) => check(format!("stays root: {why}")).warn(advice),
        (Some(name), Some(None)) => check(format!("root would become {name}; whether files allow it, root is told")),
        (Some(DEFAULT_USER), None) => check("stays root when root starts it".to_owned())
            .warn("make a user for it: useradd --system --shell /usr/sbin/nologin leuko"),
        (Some(name), None) => check(format!("there is no user {name}")).warn("make it, or correct harden.user"),
        (None, _) => check("stays root when root starts it, as configured".to_owned()),
    }
}

fn ability(name: &str, result: Result<String, String>) -> Check {
    match result {
        Ok(found) => Check::ok(AREA, name, found),
        Err(why) => Check::ok(AREA, name, why).warn("the sensor runs without it"),
    }
}

/// Every `leuko run` of this host; `user` is whom root is to become.
fn running(proc: &Path, plan: &Plan, user: Option<&User>) -> Vec<Check> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let read = |pid: u32, file: &str| fs::read_to_string(proc.join(pid.to_string()).join(file)).ok();
    let sensors = pids.into_iter().filter(|pid| {
        read(*pid, "comm").is_some_and(|name| name.trim() == "leuko")
            && read(*pid, "cmdline").is_some_and(|words| words.split('\0').any(|word| word == "run"))
    });
    sensors.filter_map(|pid| Some(state(pid, &read(pid, "status")?, plan, user))).collect()
}

/// What `/proc/PID/status` says of a sensor.
fn state(pid: u32, status: &str, plan: &Plan, user: Option<&User>) -> Check {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let effective = field("CapEff").and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or_default();
    let uid = field("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let name = uid.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten()).map(|user| user.name);
    let has = |name: &str, value: &str| field(name) == Some(value);
    let (is_sealed, is_filtered) = (has("NoNewPrivs", "1"), has("Seccomp", "2"));
    let held: Vec<Capability> = harden::sorted(caps::all().into_iter().filter(|one| effective & one.bitmask() != 0));
    let capabilities = match held.len() {
        0..=9 => harden::names(&held),
        many => format!("{many} capabilities"),
    };
    let found = format!(
        "runs as {}, with {capabilities}, {}, {}",
        name.unwrap_or_else(|| "somebody".to_owned()),
        if is_filtered { "seccomp" } else { "no seccomp" },
        if is_sealed { "no_new_privs" } else { "may gain rights" },
    );
    let check = Check::ok(AREA, format!("sensor {pid}"), found);
    let stays_root = uid == Some(0) && user.is_some();
    if is_sealed && is_filtered && !stays_root && plan.spare(&held).is_empty() {
        return check;
    }
    check.warn("it has more rights than this configuration needs: see its log for why, or restart it")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_user_is_made_or_named() {
        let refusal = Refusal { why: "leuko may not use /x".to_owned(), advice: "chown it".to_owned() };
        for (wanted, may, verdict, words) in [
            (Some("leuko"), Some(Some(Ok(()))), Verdict::Ok, "root becomes leuko"),
            (Some("leuko"), Some(Some(Err(refusal))), Verdict::Warn, "stays root: leuko may not use /x"),
            (Some("leuko"), Some(None), Verdict::Ok, "would become leuko"),
            (Some("leuko"), None, Verdict::Warn, "stays root"),
            (Some("nosuch"), None, Verdict::Warn, "no user nosuch"),
            (None, None, Verdict::Ok, "as configured"),
        ] {
            let check = user(wanted, may);
            assert_eq!(check.verdict, verdict, "{check:?}");
            assert!(check.found.contains(words), "{check:?}");
        }
    }

    #[test]
    fn sensors_that_run_are_found_and_judged() {
        let proc = tempfile::tempdir().unwrap();
        let status = |caps: &str, sealed: u8, seccomp: u8| {
            format!("Name:\tleuko\nUid:\t0\t0\t0\t0\nCapEff:\t{caps}\nNoNewPrivs:\t{sealed}\nSeccomp:\t{seccomp}\n")
        };
        let kept = "000000c000001000";
        for (pid, comm, words, status) in [
            ("30", "leuko", "leuko\0run\0--json", status("000001ffffffffff", 0, 0)),
            ("20", "leuko", "/usr/bin/leuko\0run", status(kept, 1, 2)),
            ("40", "leuko", "leuko\0run", status("000000c000201000", 1, 2)),
            ("50", "leuko", "leuko\0doctor", status(kept, 1, 2)),
            ("60", "bash", "bash\0run", status(kept, 1, 2)),
        ] {
            let dir = proc.path().join(pid);
            fs::create_dir(&dir).unwrap();
            for (file, text) in [("comm", comm), ("cmdline", words), ("status", &status)] {
                fs::write(dir.join(file), text).unwrap();
            }
        }
        let plan = harden::plan(&Config::default(), false);
        let found = running(proc.path(), &plan, None);
        let names: Vec<_> = found.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["sensor 20", "sensor 30", "sensor 40"]);
        let verdicts: Vec<_> = found.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Warn, Verdict::Warn]);
        let all = "runs as root, with CAP_NET_ADMIN CAP_PERFMON CAP_BPF, seccomp, no_new_privs";
        assert_eq!(found[0].found, all);
        assert!(found[1].found.contains("41 capabilities, no seccomp, may gain rights"), "{:?}", found[1]);
        let nobody = User::from_name("nobody").unwrap().unwrap();
        assert_eq!(running(proc.path(), &plan, Some(&nobody))[0].verdict, Verdict::Warn, "it is still root");
    }

    #[test]
    fn whoever_turns_it_off_is_told() {
        let mut config = Config::default();
        config.harden.enabled = false;
        assert_eq!(checks(&config)[0].verdict, Verdict::Warn);
    }
}

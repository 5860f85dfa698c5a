//! Which interfaces to watch: names and patterns, in this network namespace or another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `eth0`, `eth*`, `blue:eth0` or `blue:veth?`. What it names need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceSpec {
    /// The network namespace; none for that of the sensor.
    pub namespace: Option<NamespaceName>,
    /// The interfaces there.
    pub pattern: NamePattern,
}

impl TryFrom<String> for InterfaceSpec {
    type Error = String;

    /// No interface has a colon in its name (the kernel's `dev_valid_name`), so the last one ends the namespace.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (namespace, pattern) = match text.rsplit_once(':') {
            Some((namespace, pattern)) => (Some(NamespaceName::new(namespace)), pattern),
            None => (None, text.as_str()),
        };
        match (namespace, NamePattern::new(pattern)) {
            (None, Some(pattern)) => Ok(Self { namespace: None, pattern }),
            (Some(Some(namespace)), Some(pattern)) => Ok(Self { namespace: Some(namespace), pattern }),
            (Some(None), _) | (_, None) => Err(format!(
                "{text:?} is not the name of an interface (1 to 15 characters, no space, no slash), a pattern such as \
                 \"eth*\" or \"veth?\", or one of these in a network namespace such as \"blue:eth0\""
            )),
        }
    }
}

impl From<InterfaceSpec> for String {
    fn from(spec: InterfaceSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for InterfaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}:{}", self.pattern),
            None => self.pattern.fmt(f),
        }
    }
}

/// Name of a network namespace, as `ip netns` knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceName(String);

impl NamespaceName {
    /// None for what cannot be the name of a file.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let valid = (1..=255).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control());
        valid.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an interface, or a pattern in which `*` stands for any characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(String);

/// `IFNAMSIZ` without the terminator.
const NAME_MAX: usize = 15;

impl NamePattern {
    /// The rules of the kernel's `dev_valid_name`, for ASCII; none for what no interface is called.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let least = text.bytes().filter(|&byte| byte != b'*').count();
        let valid = !text.is_empty()
            && least <= NAME_MAX
            && !matches!(text, "." | "..")
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
        valid.then(|| Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, when it stands for no other.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(self.as_str()).filter(|text| !text.contains(['*', '?']))
    }

    /// Whether an interface of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut rest) = (0, 0);
        // The latest `*`, and where in the name what follows it was tried.
        let mut star: Option<(usize, usize)> = None;
        while rest < name.len() {
            match (pattern.get(at), star) {
                (Some(b'*'), _) => {
                    star = Some((at, rest));
                    at += 1;
                }
                (Some(&byte), _) if byte == b'?' || byte == name[rest] => {
                    at += 1;
                    rest += 1;
                }
                (_, Some((before, tried))) => {
                    star = Some((before, tried + 1));
                    at = before + 1;
                    rest = tried + 1;
                }
                (_, None) => return false,
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<InterfaceSpec, String> {
        InterfaceSpec::try_from(text.to_owned())
    }

    #[test]
    fn specs_print_as_they_are_read() {
        for (text, namespace, pattern) in [
            ("eth0", None, "eth0"),
            ("*", None, "*"),
            ("enp0s31f6.4094", None, "enp0s31f6.4094"),
            ("blue:eth0", Some("blue"), "eth0"),
            ("blue:veth?", Some("blue"), "veth?"),
            ("cni-1:2:eth*", Some("cni-1:2"), "eth*"),
            ("*verylongname***?", None, "*verylongname***?"),
        ] {
            let spec = parse(text).unwrap();
            assert_eq!(spec.namespace.as_ref().map(NamespaceName::as_str), namespace, "{text}");
            assert_eq!(spec.pattern.as_str(), pattern);
            assert_eq!(spec.to_string(), text);
        }
        assert_eq!(parse("eth0").unwrap().pattern.name(), Some("eth0"));
        assert_eq!(parse("eth?").unwrap().pattern.name(), None);
    }

    #[test]
    fn what_is_not_a_spec_is_told_what_is_allowed() {
        for text in ["", "a b", "a/b", "..", "sixteen-letters-", ":eth0", "blue:", "a/b:eth0", "..:eth0", "a b:eth0"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("blue:eth0") && error.contains("eth*"), "{text}: {error}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("eth*", "eth0.5", true),
            ("eth*", "veth0", false),
            ("veth?", "veth1", true),
            ("veth?", "veth", false),
            ("veth?", "veth10", false),
            ("*", "wlan0", true),
            ("*th*0", "veth1th0", true),
            ("*th*0", "veth1", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXcXb", false),
            ("**?", "", false),
            ("?*", "e", true),
        ] {
            assert_eq!(NamePattern::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }
}

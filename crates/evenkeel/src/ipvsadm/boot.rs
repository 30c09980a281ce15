//! The rules of `ipvsadm` that the director starts with: Debian's files, or another.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use evenkeel_config::ipvsadm::{self, DEFAULTS_FILE, Names, RULES_FILE};
use evenkeel_config::native::IpvsadmRules;
use evenkeel_daemon::start::StartRules;

/// Reads the rules.
#[must_use]
pub fn start_rules(setting: &IpvsadmRules, names: &dyn Names) -> StartRules {
    match setting {
        IpvsadmRules::Never => StartRules::default(),
        IpvsadmRules::File(file) => read(file, Vec::new(), names),
        IpvsadmRules::Auto => debian(Path::new(DEFAULTS_FILE), Path::new(RULES_FILE), names),
    }
}

/// What Debian's start script would load.
fn debian(defaults: &Path, file: &Path, names: &dyn Names) -> StartRules {
    let text = match fs::read(defaults) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return StartRules::default(),
        Err(error) => {
            return StartRules {
                remarks: vec![format!("cannot read {}: {error}", defaults.display())],
                ..StartRules::default()
            };
        }
    };
    let settings = ipvsadm::defaults(&text);
    let place = defaults.display();
    let told = settings.remarks.iter();
    let mut remarks: Vec<String> = told
        .map(|remark| format!("{place}:{}: {}", remark.line, remark.message))
        .collect();
    if let Some((daemons, line)) = settings.daemons {
        remarks.push(format!(
            "{place}:{line}: DAEMON=\"{daemons}\": the synchronisation of connections is not \
             supported yet, no such daemon is started"
        ));
    }
    if settings.auto {
        return read(file, remarks, names);
    }
    StartRules {
        remarks,
        ..StartRules::default()
    }
}

fn read(file: &Path, mut remarks: Vec<String>, names: &dyn Names) -> StartRules {
    let place = file.display();
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            remarks.push(format!(
                "cannot read the rules in {place}: {error}; the table begins empty"
            ));
            String::new()
        }
    };
    let rules = ipvsadm::rules(&text, names);
    for remark in rules.remarks {
        remarks.push(format!("{place}:{}: {}", remark.line, remark.message));
    }
    StartRules {
        file: file.into(),
        edits: rules.edits,
        remarks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_config::ipvsadm::NoNames;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(defaults: &str, rules: Option<&str>) -> Self {
            let files = Self(tempfile::tempdir().expect("a temporary directory"));
            fs::write(files.0.path().join("default"), defaults).expect("ours");
            if let Some(rules) = rules {
                fs::write(files.0.path().join("rules"), rules).expect("ours");
            }
            files
        }

        fn loaded(&self) -> (Vec<usize>, Vec<String>) {
            let path = |name| self.0.path().join(name);
            let rules = debian(&path("default"), &path("rules"), &NoNames);
            let directory = format!("{}/", self.0.path().display());
            let remarks = rules.remarks.iter();
            (
                rules.edits.iter().map(|(line, _)| *line).collect(),
                remarks.map(|text| text.replace(&directory, "")).collect(),
            )
        }
    }

    const RULES: &str = "# ipvsadm.rules\n-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.2 -s rr\n";

    #[test]
    fn loads_when_the_file_says_so() {
        let files = Files::new("AUTO=\"true\"\nDAEMON=\"none\"\n", Some(RULES));
        let (lines, remarks) = files.loaded();
        assert_eq!(lines, [2]);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(
            remarks[0].starts_with("rules:3: Zero port specified"),
            "{remarks:?}"
        );
        assert_eq!(
            Files::new("AUTO=\"false\"\n", Some(RULES)).loaded(),
            (vec![], vec![])
        );
    }

    #[test]
    fn tells_what_is_not_there() {
        let (lines, remarks) = Files::new("AUTO=true\nDAEMON=both\n", None).loaded();
        assert!(lines.is_empty());
        assert_eq!(
            remarks,
            [
                "default:2: DAEMON=\"both\": the synchronisation of connections is not supported \
                 yet, no such daemon is started",
                "cannot read the rules in rules: No such file or directory (os error 2); the \
                 table begins empty",
            ]
        );
    }

    #[test]
    fn never_is_never_and_a_file_is_read_in_any_case() {
        let files = Files::new("", Some(RULES));
        let named = IpvsadmRules::File(files.0.path().join("rules"));
        assert_eq!(start_rules(&named, &NoNames).edits.len(), 1);
        let none = start_rules(&IpvsadmRules::Never, &NoNames);
        assert!(none.edits.is_empty() && none.remarks.is_empty());
    }
}

//! Recorded runs of the real `ipvsadm`: `$ command`, its output, `[exit N]`.

use std::path::PathBuf;

/// A file of recorded commands.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    /// File name without `.txt`.
    pub(crate) name: String,
    /// The whole text.
    pub(crate) text: String,
    /// Its commands.
    pub(crate) steps: Vec<Step>,
}

/// A command and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The command line.
    pub(crate) command: String,
    /// Standard output and standard error together.
    pub(crate) output: String,
    /// Exit code.
    pub(crate) exit: u8,
}

/// Where the recordings lie.
pub(crate) fn directory() -> PathBuf {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/reference/golden/ipvsadm"
    )
    .into()
}

/// All recordings, by name.
pub(crate) fn all() -> Vec<Recording> {
    let entries = std::fs::read_dir(directory()).expect("the recordings lie beside the project");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            let text =
                String::from_utf8_lossy(&std::fs::read(&path).expect("readable")).into_owned();
            let steps = steps(&text);
            Recording { name, text, steps }
        })
        .collect()
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open: Option<Step> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        let exit = bare
            .strip_prefix("[exit ")
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(command) = bare.strip_prefix("$ ") {
            open = Some(Step {
                command: command.into(),
                output: String::new(),
                exit: 0,
            });
        } else if let (Some(exit), Some(mut step)) = (exit, open.take_if(|_| exit.is_some())) {
            step.exit = exit.parse().expect("an exit code");
            steps.push(step);
        } else if let Some(step) = &mut open {
            step.output.push_str(line);
        }
    }
    steps
}

/// The words of a command line whose only quoting is `''`.
pub(crate) fn words(command: &str) -> Vec<&str> {
    command
        .split_whitespace()
        .map(|word| if word == "''" { "" } else { word })
        .collect()
}

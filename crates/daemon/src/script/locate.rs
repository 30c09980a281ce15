//! Where a script's file is, whether its user may run it, and who else can change it.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use evenkeel_kernel::process::Identity;

/// Where programs are looked for that are named without a directory, when the environment
/// does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Symbolic links on one path, as many as the kernel follows.
const LINKS_MAX: u32 = 40;

/// Permissions to execute, for owner, group and others.
const EXECUTE: [u32; 3] = [0o100, 0o010, 0o001];
/// The group and others may write.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// The path by which a program is named, and the file that it leads to, which this user may
/// run.
pub(super) fn program(name: &str, who: Identity) -> Result<(PathBuf, PathBuf), String> {
    let written = if name.contains('/') {
        PathBuf::from(name)
    } else {
        search(name, who).ok_or_else(|| {
            format!(
                "{name} is in no directory of PATH: write its whole path, such as /usr/bin/{name}"
            )
        })?
    };
    if written.is_relative() {
        return Err(format!(
            "{name} is not a whole path: write one that begins with /"
        ));
    }
    let file = match fs::canonicalize(&written) {
        Ok(file) => file,
        // The user may see more than a daemon that has given up its rights.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && who.uid != 0 => {
            return Ok((written.clone(), written));
        }
        Err(error) => return Err(format!("cannot find {name}: {error}")),
    };
    let metadata =
        fs::metadata(&file).map_err(|error| format!("cannot look at {name}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{name} is no file"));
    }
    if !may_execute(&metadata, who) {
        return Err(format!(
            "{name} can't be executed by user {}, group {}: run `chmod +x` on it, or change `script_user`",
            who.uid, who.gid
        ));
    }
    Ok((written, file))
}

fn search(name: &str, who: Identity) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| PATH.into());
    env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| {
            fs::metadata(file).is_ok_and(|found| found.is_file() && may_execute(&found, who))
        })
}

fn may_execute(file: &Metadata, who: Identity) -> bool {
    let [owner, group, others] = EXECUTE;
    let mask = if who.uid == 0 {
        owner | group | others
    } else if who.uid == file.uid() {
        owner
    } else if who.gid == file.gid() {
        group
    } else {
        others
    };
    file.mode() & mask != 0
}

/// How somebody else than root can change what is run, where it is run with root's rights:
/// the first directory, link or file on the way there that is not root's alone.
pub(super) fn rival(written: &Path, file: &Path, who: Identity) -> Option<String> {
    let as_root = who.is_privileged()
        || fs::metadata(file).is_ok_and(|file| {
            let mode = file.mode();
            (file.uid() == 0 && mode & SET_UID != 0) || (file.gid() == 0 && mode & SET_GID != 0)
        });
    if !as_root {
        return None;
    }
    let mut ahead: VecDeque<OsString> = names(written);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    loop {
        let found = match fs::symlink_metadata(&here) {
            Ok(found) => found,
            Err(error) => return Some(format!("cannot look at {}: {error}", here.display())),
        };
        if let Some(why) = changeable(&here, &found) {
            return Some(why);
        }
        if found.is_symlink() {
            links += 1;
            let Ok(target) = fs::read_link(&here) else {
                return Some(format!("cannot read the link {}", here.display()));
            };
            if links > LINKS_MAX {
                return Some(format!("{} is one link too many", here.display()));
            }
            here.pop();
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            let mut names = names(&target);
            names.append(&mut ahead);
            ahead = names;
        }
        match ahead.pop_front() {
            Some(name) if name == ".." => {
                here.pop();
            }
            Some(name) => here.push(name),
            None => return None,
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn changeable(path: &Path, found: &Metadata) -> Option<String> {
    let path = path.display();
    if found.uid() != 0 {
        return Some(format!("{path} belongs to user {}", found.uid()));
    }
    // Whoever may write to a sticky directory can't replace what is others' in it; a link's
    // own mode says nothing.
    if found.is_symlink() || (found.is_dir() && found.mode() & STICKY != 0) {
        return None;
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Some(format!("everybody can write to {path}"));
    }
    if found.gid() != 0 && found.mode() & GROUP_WRITES != 0 {
        return Some(format!("group {} can write to {path}", found.gid()));
    }
    None
}

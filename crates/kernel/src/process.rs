//! Programs that the daemon starts: each in a process group of its own, as a user of its
//! own. Which ones, and when they have to end, is decided elsewhere.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{self, SigSet, killpg};
use nix::unistd::{Gid, Group, Pid, Uid, User};

use crate::error::{Attempt, Result};
use crate::system;

/// Whom a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group, the only one.
    pub gid: u32,
}

impl Identity {
    /// This process's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    /// True: what is done as this one is done as root, or with the rights of its group.
    #[must_use]
    pub const fn is_privileged(self) -> bool {
        self.uid == 0 || self.gid == 0
    }
}

/// A user's number and main group, by name or by number; none: there is no such user.
/// May ask other machines, and block for as long as they take.
pub fn user(name: &str) -> Result<Option<Identity>> {
    let attempt = || format!("look up the user {name}");
    let mut found = User::from_name(name).attempt(attempt)?;
    if let (None, Ok(number)) = (&found, name.parse()) {
        found = User::from_uid(Uid::from_raw(number)).attempt(attempt)?;
    }
    Ok(found.map(|user| Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// A group's number, by name or by number; none: there is no group of that name. May block
/// as [`user`] does.
pub fn group(name: &str) -> Result<Option<u32>> {
    let found = Group::from_name(name).attempt(|| format!("look up the group {name}"))?;
    Ok(found
        .map(|group| group.gid.as_raw())
        .or_else(|| name.parse().ok()))
}

/// Makes `command` start in a process group of its own, as `who`, and with as many open files
/// as this process could have when it began: programs that close all they could have open
/// would take long with more. It gets SIGTERM when
/// the thread ends that starts it, so that it does not outlive a daemon that is killed: it
/// has to be started by a thread that lives as long as the daemon does.
pub fn isolate(command: &mut Command, who: Identity) {
    command.process_group(0);
    let changed = who != Identity::own();
    let own_group = Identity::own().gid;
    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    let open_files = system::open_files_before();
    let become_them = move || -> io::Result<()> {
        if let Some((soft, hard)) = open_files {
            // One that can't be had is no reason not to run it.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
        }
        if changed {
            // The groups first: they take the rights that the user has not.
            nix::unistd::setgroups(&[gid])?;
            if who.gid != own_group {
                nix::unistd::setgid(gid)?;
            }
            nix::unistd::setuid(uid)?;
        }
        // Who started the daemon may have blocked the signal that ends a script.
        SigSet::empty().thread_set_mask()?;
        // A change of the user takes it back, so it comes last.
        prctl::set_pdeathsig(signal::Signal::SIGTERM)?;
        Ok(())
    };
    // SAFETY: what runs between fork and exec are some system calls on values that were
    // copied before; nothing is allocated and no lock taken.
    unsafe {
        command.pre_exec(become_them);
    }
}

/// How a process group is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Forced,
}

/// Sends a signal to every process of a group; one that has none any more is no error.
/// `leader` is the process that was started with [`isolate`].
pub fn end_group(leader: u32, ending: Ending) -> Result<()> {
    let signal = match ending {
        Ending::Asked => signal::Signal::SIGTERM,
        Ending::Forced => signal::Signal::SIGKILL,
    };
    // Group 0 would be our own, and group 1 everybody.
    let Some(group) = i32::try_from(leader).ok().filter(|&group| group > 1) else {
        return Ok(());
    };
    match killpg(Pid::from_raw(group), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).attempt(|| format!("end process group {leader}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups() {
        let root = Identity { uid: 0, gid: 0 };
        assert_eq!(user("root").unwrap(), Some(root));
        assert_eq!(user("0").unwrap(), Some(root));
        assert_eq!(user("no-such-user-here").unwrap(), None);
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("12345").unwrap(), Some(12345));
        assert_eq!(group("no-such-group-here").unwrap(), None);
        assert!(root.is_privileged());
        assert!(!Identity { uid: 1, gid: 1 }.is_privileged());
    }

    #[test]
    fn nobody_is_nobody() {
        let Some(nobody) = user("nobody").unwrap() else {
            panic!("no user nobody");
        };
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "id -u; id -G; cut -d ' ' -f 5 /proc/self/stat; echo $$",
        ]);
        isolate(&mut command, nobody);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], nobody.uid.to_string());
        assert_eq!(lines[1], nobody.gid.to_string());
        assert_eq!(lines[2], lines[3], "it leads a group of its own");
    }

    #[test]
    fn it_has_the_limits_that_we_began_with() {
        let before = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)
            .unwrap()
            .0;
        system::raise_open_files();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -n"]);
        isolate(&mut command, Identity::own());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim(), before.to_string());
    }

    #[test]
    fn signals_that_we_block_reach_it() {
        let mut blocked = SigSet::empty();
        blocked.add(signal::Signal::SIGTERM);
        blocked.thread_block().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        isolate(&mut command, Identity::own());
        let mut child = command.spawn().unwrap();
        end_group(child.id(), Ending::Asked).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_group_ends_as_a_whole() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & sleep 1000"]);
        isolate(&mut command, Identity::own());
        let mut child = command.spawn().unwrap();
        end_group(child.id(), Ending::Asked).unwrap();
        assert!(!child.wait().unwrap().success());
        end_group(child.id(), Ending::Forced).unwrap();
        end_group(0, Ending::Forced).unwrap();
        end_group(1, Ending::Forced).unwrap();
    }
}

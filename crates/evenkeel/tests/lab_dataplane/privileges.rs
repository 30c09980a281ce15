//! Who may not, and who comes too early, is told in one clear line.

use anyhow::{Result, ensure};
use evenkeel_lab::sandbox;

use crate::world::{START, World};

/// Runs a command as an ordinary user.
const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/// The command fails and says why in one line, with these parts.
fn refused(world: &World, command: &str, parts: &[&str]) -> Result<()> {
    let output = world.director.shell(command)?;
    ensure!(
        output.status != 0 && output.stdout.is_empty() && output.stderr.lines().count() == 1,
        "{command}: {output}"
    );
    for part in parts {
        ensure!(
            output.stderr.contains(part),
            "{command}: {part} is not in: {output}"
        );
    }
    Ok(())
}

#[test]
fn a_refusal_is_one_clear_line() {
    sandbox::run_test(|| {
        let mut world = World::build()?;
        let start = "start it with `evenkeel run`";
        for command in ["evenkeel status", "evenkeel stop", "ipvsadm -ln"] {
            refused(&world, command, &["/run/evenkeel/default.sock", start])?;
        }
        refused(
            &world,
            &format!("{AS_NOBODY} evenkeel run"),
            &["run as root"],
        )?;

        world.director.start_daemon(START)?;
        for command in ["evenkeel status", "evenkeel stop", "evenkeel purge"] {
            let command = format!("{AS_NOBODY} {command}");
            refused(&world, &command, &["permission denied", "as root"])?;
        }
        // ipvsadm's own words, as scripts know them.
        let output = world.director.shell(&format!("{AS_NOBODY} ipvsadm -ln"))?;
        ensure!(
            output.status == 2
                && output
                    .stderr
                    .contains("Permission denied (you must be root)"),
            "{output}"
        );
        refused(
            &world,
            "evenkeel run",
            &["/run/evenkeel/default.sock", "another"],
        )?;
        ensure!(world.status()?.instance == "default");
        Ok(())
    });
}

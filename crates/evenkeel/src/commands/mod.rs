//! The commands of `evenkeel` itself.

pub(crate) mod check;
pub(crate) mod conns;
pub(crate) mod convert;
pub(crate) mod drain;
pub(crate) mod explain;
pub(crate) mod purge;
mod reading;
pub(crate) mod realserver;
pub(crate) mod reload;
mod rows;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod schedulers;
mod screen;
pub(crate) mod services;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod stop;
mod text;
pub(crate) mod top;
pub(crate) mod trace;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use evenkeel_api::paths::INSTANCE_VARIABLE;

/// `evenkeel --instance NAME ipvsadm …`: the same again, the instance told by the
/// variable, since that is the only way for `ipvsadm`.
pub(crate) fn ipvsadm(instance: &str, arguments: Vec<OsString>) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("evenkeel: cannot find this program's own file: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut command = Command::new(program);
    command
        .arg("ipvsadm")
        .args(arguments)
        .env(INSTANCE_VARIABLE, instance);
    match command.status() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("evenkeel: cannot run ipvsadm: {error}");
            ExitCode::FAILURE
        }
    }
}

//! One binary, chosen by the name it is called by or by its first word.

use std::ffi::OsString;
use std::process::ExitCode;

use evenkeel::ipvsadm::{self, Program};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let called = |at: usize| {
        arguments
            .get(at)
            .and_then(|word| Program::from_name(word.to_str()?))
    };
    if called(0).is_some() {
        return ipvsadm::main(&arguments);
    }
    if called(1).is_some() {
        return ipvsadm::main(&arguments[1..]);
    }
    eprintln!("usage: evenkeel ipvsadm …");
    ExitCode::from(2)
}

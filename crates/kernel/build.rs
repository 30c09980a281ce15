//! Puts the BPF object beside the crate's own build output, from where it is
//! embedded. It is compiled for another target, with another compiler, by
//! `cargo xtask bpf`; a build script must not do that behind the user's back.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the object is looked for when the variable does not say.
const OBJECT: &str = "target/bpf/evenkeel.bpf.o";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=EVENKEEL_BPF_OBJECT");
    let object = match env::var_os("EVENKEEL_BPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(variable("CARGO_MANIFEST_DIR")?)
            .join("../..")
            .join(OBJECT),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let copy = PathBuf::from(variable("OUT_DIR")?).join("evenkeel.bpf.o");
    std::fs::copy(&object, &copy).map(drop).map_err(|error| {
        format!(
            "cannot read the BPF object {}: {error}; run `make bpf` to build it, \
             or name one in EVENKEEL_BPF_OBJECT",
            object.display()
        )
    })
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

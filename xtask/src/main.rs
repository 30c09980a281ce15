//! Chores of the house that are more than a line of shell: `cargo xtask bpf` builds
//! the BPF object.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "bpfel-unknown-none";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("bpf") => build_bpf(),
        _ => Err("usage: cargo xtask bpf    builds target/bpf/{evenkeel,bench}.bpf.o".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A compiler that can build `core` for BPF: it comes with the library's source.
struct Compiler {
    rustc: PathBuf,
    /// A stable compiler has to be told that unstable features are meant.
    bootstrap: bool,
}

fn build_bpf() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the workspace's root is not there")?;
    let compiler = find_compiler()?;
    let build = root.join("target/bpf-build");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join("bpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_TARGET_DIR", &build)
        // What an outer cargo sets for the host does not fit this target.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env(
            "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
            "-C target-cpu=v3 -C debuginfo=2 -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order",
        );
    if compiler.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let status = command
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    if !status.success() {
        return Err(
            "building the BPF object failed; is bpf-linker on PATH? `make setup` installs it"
                .into(),
        );
    }
    for name in ["evenkeel", "bench"] {
        let object = build.join(TARGET).join("release").join(name);
        install(&object, &root.join(format!("target/bpf/{name}.bpf.o")))?;
    }
    Ok(())
}

/// Copies the object, but only when it has changed, so that nothing is rebuilt
/// without need.
fn install(from: &Path, to: &Path) -> Result<(), String> {
    let bytes = std::fs::read(from).map_err(|e| format!("cannot read {}: {e}", from.display()))?;
    if std::fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let folder = to.parent().ok_or("the object has no folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(to, bytes))
        .map_err(|e| format!("cannot write {}: {e}", to.display()))
}

fn find_compiler() -> Result<Compiler, String> {
    let debian = Compiler {
        rustc: "/usr/bin/rustc".into(),
        bootstrap: true,
    };
    let nightly = rustup_nightly().map(|rustc| Compiler {
        rustc,
        bootstrap: false,
    });
    [Some(debian), nightly]
        .into_iter()
        .flatten()
        .find(|compiler| has_library_source(&compiler.rustc))
        .ok_or_else(|| {
            "no Rust that can build for BPF: neither Debian's (apt-get install rustc-web \
             rust-web-src) nor a nightly with rust-src (rustup toolchain install nightly \
             --component rust-src); `make setup` installs the first"
                .into()
        })
}

fn rustup_nightly() -> Option<PathBuf> {
    let output = Command::new("rustup")
        .args(["which", "rustc", "--toolchain", "nightly"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().into())
}

fn has_library_source(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else {
        return false;
    };
    let Ok(sysroot) = String::from_utf8(output.stdout) else {
        return false;
    };
    Path::new(sysroot.trim())
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists()
}

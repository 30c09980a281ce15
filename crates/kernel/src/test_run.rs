//! Test runs: a program of the instance on a packet of ours, for tests that compare
//! with the host's build, and for benchmarks. Nothing is sent, but the shared memory
//! changes as it would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;

use crate::bpf;
use crate::dataplane::Dataplane;
use crate::error::{Attempt, Result};
use crate::program::Program;

/// Room for what a program may put in front of a packet.
const GROWTH: usize = 256;

/// What a program is run on.
#[derive(Clone, Copy, Debug)]
pub struct TestRun<'a> {
    /// The frame, from its Ethernet header on, 14 bytes at least.
    pub frame: &'a [u8],
    /// Index of the interface that it comes in by, in the caller's network
    /// namespace; 0: the loopback interface.
    pub interface: u32,
    /// How often; each run gets what the one before left. 0 counts as 1.
    pub repeat: u32,
    /// tc only: payload bytes per segment, for a packet that is segmented later;
    /// 0: it is not.
    pub gso_size: u32,
    /// tc only: number of these segments.
    pub gso_segments: u32,
    /// tc only: firewall mark.
    pub mark: u32,
}

impl<'a> TestRun<'a> {
    /// One run on `frame`, come in by the loopback interface.
    #[must_use]
    pub fn new(frame: &'a [u8]) -> Self {
        Self {
            frame,
            interface: 0,
            repeat: 1,
            gso_size: 0,
            gso_segments: 0,
            mark: 0,
        }
    }
}

/// What a test run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRunResult {
    /// The program's return value: an XDP action, a tc action, or a tick.
    pub verdict: u32,
    /// The frame as the last run left it.
    pub frame: Vec<u8>,
    /// Nanoseconds a run took, on average.
    pub nanoseconds: u32,
}

impl Dataplane {
    /// Runs a program of the instance.
    pub fn test_run(&self, program: Program, run: &TestRun<'_>) -> Result<TestRunResult> {
        test_run(program, self.programs.get(program), run)
    }
}

/// A program of an instance that another process works on.
#[derive(Debug)]
pub struct PinnedProgram {
    program: Program,
    descriptor: OwnedFd,
}

impl PinnedProgram {
    /// Opens the program of the instance pinned in the directory `pins`.
    pub fn open(pins: &Path, program: Program) -> Result<Self> {
        let pin = pins.join(program.name());
        let descriptor = bpf::open_pin(&pin).attempt(|| format!("open {}", pin.display()))?;
        Ok(Self {
            program,
            descriptor,
        })
    }

    /// Runs it.
    pub fn test_run(&self, run: &TestRun<'_>) -> Result<TestRunResult> {
        test_run(self.program, self.descriptor.as_fd(), run)
    }
}

fn test_run(
    program: Program,
    descriptor: BorrowedFd<'_>,
    run: &TestRun<'_>,
) -> Result<TestRunResult> {
    let context = match program {
        Program::Tc
        | Program::Egress
        | Program::Bare
        | Program::BareEgress
        | Program::TcPart(_) => tc_context(run),
        Program::Xdp | Program::XdpPart(_) | Program::Clock => xdp_context(run),
    };
    let mut frame = vec![0; run.frame.len() + GROWTH];
    let output = loop {
        match bpf::test_run(descriptor, run.frame, &context, &mut frame, run.repeat) {
            // A signal came in between; nothing can be said about the run.
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            other => break other,
        }
    }
    .attempt(|| {
        format!(
            "run {} on a packet of {} bytes",
            program.name(),
            run.frame.len()
        )
    })?;
    frame.truncate(output.length);
    Ok(TestRunResult {
        verdict: output.verdict,
        frame,
        nanoseconds: output.nanoseconds,
    })
}

/// `struct xdp_md`: data, `data_end`, `data_meta`, `ingress_ifindex`, `rx_queue_index`,
/// `egress_ifindex`.
fn xdp_context(run: &TestRun<'_>) -> Vec<u8> {
    if run.interface == 0 {
        return Vec::new();
    }
    let length = run.frame.len() as u32;
    words(&[0, length, 0, run.interface, 0, 0])
}

/// `struct __sk_buff` in words of 4 bytes, up to `gso_size`.
fn tc_context(run: &TestRun<'_>) -> Vec<u8> {
    const MARK: usize = 2;
    const INGRESS_IFINDEX: usize = 9;
    const IFINDEX: usize = 10;
    const GSO_SEGS: usize = 41;
    const GSO_SIZE: usize = 44;
    let mut context = [0; 48];
    context[MARK] = run.mark;
    context[INGRESS_IFINDEX] = run.interface;
    context[IFINDEX] = run.interface;
    context[GSO_SEGS] = run.gso_segments;
    context[GSO_SIZE] = run.gso_size;
    words(&context)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

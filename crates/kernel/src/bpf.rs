//! bpf(2), as far as pins, links and test runs need it. Loading is aya's work.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

// Commands, enum bpf_cmd.
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// enum `bpf_map_type`.
pub(crate) const MAP_TYPE_ARRAY: u32 = 2;
/// Map flag: can be mapped.
pub(crate) const MAP_MMAPABLE: u32 = 1 << 10;
/// enum `bpf_link_type`.
pub(crate) const LINK_TYPE_XDP: u32 = 6;
/// enum `bpf_link_type`.
pub(crate) const LINK_TYPE_TCX: u32 = 11;
/// enum `bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// enum `bpf_attach_type`.
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;
/// Attach in the driver or not at all.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A command's attributes: the prefix of `union bpf_attr` that it uses. Shorter
/// than the kernel's is allowed; the rest counts as zeros.
///
/// # Safety
/// The type must be `repr(C)`, without padding, and have the layout that the
/// kernel documents for the commands it is used with. Addresses in it must point
/// to memory that is valid, for as many bytes as the type says, during the call.
unsafe trait Attributes: Sized {}

fn call<A: Attributes>(command: libc::c_int, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: `attributes` is a live, exclusively borrowed struct of the size given;
    // that its contents fit the command is what `Attributes` promises.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    // bpf(2) gives -1, 0 or a file descriptor: all fit.
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn descriptor(number: i32) -> OwnedFd {
    // SAFETY: only called with what OBJ_GET or LINK_CREATE has just returned: a new
    // descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    descriptor.as_raw_fd().cast_unsigned()
}

#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}
// SAFETY: as `struct { pathname, bpf_fd, file_flags }`; the path is checked to end
// in a zero where it is filled in.
unsafe impl Attributes for Object {}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// Pins an object of the kernel at `path`, which must not exist.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = Object {
        path: path.as_ptr() as u64,
        descriptor: raw(object),
        flags: 0,
    };
    call(OBJ_PIN, &mut attributes).map(drop)
}

/// Opens what is pinned at `path`.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Object {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    call(OBJ_GET, &mut attributes).map(descriptor)
}

#[repr(C)]
struct Info {
    descriptor: u32,
    length: u32,
    address: u64,
}
// SAFETY: as `struct { bpf_fd, info_len, info }`; filled in by `info` alone, with the
// address and size of a live struct.
unsafe impl Attributes for Info {}

/// A prefix of what the kernel tells about an object.
///
/// # Safety
/// `repr(C)`, integers only, so that the kernel may write any bytes into it.
unsafe trait KernelInfo: Default {}

fn info<I: KernelInfo>(object: BorrowedFd<'_>) -> io::Result<I> {
    let mut info = I::default();
    let mut attributes = Info {
        descriptor: raw(object),
        length: size_of::<I>() as u32,
        address: std::ptr::from_mut(&mut info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// `struct bpf_map_info`, its beginning.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}
// SAFETY: integers only, `repr(C)`.
unsafe impl KernelInfo for MapInfo {}

/// `struct bpf_prog_info`, its beginning.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct ProgramInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    tag: [u8; 8],
    /// Bytes of machine code; 0: interpreted.
    pub(crate) compiled_length: u32,
    translated_length: u32,
}
// SAFETY: integers only, `repr(C)`.
unsafe impl KernelInfo for ProgramInfo {}

/// `struct bpf_link_info`, its beginning.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program: u32,
    hole: u32,
    /// Of XDP and TCX links; 0 when the interface is gone.
    pub(crate) interface: u32,
    /// TCX: the attach type.
    variant: u32,
}
// SAFETY: integers only, `repr(C)`.
unsafe impl KernelInfo for LinkInfo {}

/// About a map.
pub(crate) fn map_info(map: impl AsFd) -> io::Result<MapInfo> {
    info(map.as_fd())
}

/// About a program.
pub(crate) fn program_info(program: impl AsFd) -> io::Result<ProgramInfo> {
    info(program.as_fd())
}

/// About a link.
pub(crate) fn link_info(link: impl AsFd) -> io::Result<LinkInfo> {
    info(link.as_fd())
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    hole: u32,
    expected_revision: u64,
}
// SAFETY: as `struct link_create` with its `tcx` part; no addresses.
unsafe impl Attributes for LinkCreate {}

/// Where a link puts a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// In the driver.
    Xdp,
    /// tc ingress, Linux 6.6 and newer; behind what others have put there.
    Tcx,
    /// The same at tc egress.
    TcxEgress,
}

/// Attaches `program` to the interface for as long as the link lives.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    interface: u32,
    kind: LinkKind,
) -> io::Result<OwnedFd> {
    let (attach_type, flags) = match kind {
        LinkKind::Xdp => (ATTACH_XDP, XDP_FLAGS_DRV_MODE),
        LinkKind::Tcx => (ATTACH_TCX_INGRESS, 0),
        LinkKind::TcxEgress => (ATTACH_TCX_EGRESS, 0),
    };
    let mut attributes = LinkCreate {
        program: raw(program),
        interface,
        attach_type,
        flags,
        relative: 0,
        hole: 0,
        expected_revision: 0,
    };
    call(LINK_CREATE, &mut attributes).map(descriptor)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}
// SAFETY: as `struct link_update`; no addresses.
unsafe impl Attributes for LinkUpdate {}

/// Puts `program` in the place of the link's present one, between two packets.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: raw(link),
        program: raw(program),
        flags: 0,
        old_program: 0,
    };
    call(LINK_UPDATE, &mut attributes).map(drop)
}

#[repr(C)]
struct LinkDetach {
    link: u32,
}
// SAFETY: as `struct link_detach`; no addresses.
unsafe impl Attributes for LinkDetach {}

/// Takes the link's program off the interface at once, whoever else holds the link.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_DETACH, &mut LinkDetach { link: raw(link) }).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    packet_size: u32,
    output_size: u32,
    packet: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_output_size: u32,
    context: u64,
    context_output: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    hole: u32,
}
// SAFETY: as `struct test`; filled in by `test_run` alone, with slices that live
// through the call and their lengths.
unsafe impl Attributes for TestRun {}

/// What a test run gave.
#[derive(Debug)]
pub(crate) struct TestRunOutput {
    /// The program's return value.
    pub(crate) verdict: u32,
    /// Bytes of the packet after it.
    pub(crate) length: usize,
    /// Nanoseconds a run took, on average.
    pub(crate) nanoseconds: u32,
}

/// Runs a program on `packet`, `repeat` times, each on what the one before left.
/// `output` takes the packet as it is at the end; when it is too short, the kernel
/// says ENOSPC.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
    output: &mut [u8],
    repeat: u32,
) -> io::Result<TestRunOutput> {
    let address = |bytes: &[u8]| {
        if bytes.is_empty() {
            0
        } else {
            bytes.as_ptr() as u64
        }
    };
    let mut attributes = TestRun {
        program: raw(program),
        packet_size: packet.len() as u32,
        packet: address(packet),
        output_size: output.len() as u32,
        output: if output.is_empty() {
            0
        } else {
            output.as_mut_ptr() as u64
        },
        repeat,
        context_size: context.len() as u32,
        context: address(context),
        ..TestRun::default()
    };
    call(PROG_TEST_RUN, &mut attributes)?;
    Ok(TestRunOutput {
        verdict: attributes.verdict,
        length: attributes.output_size as usize,
        nanoseconds: attributes.duration,
    })
}

//! The shared arrays, the constants set at loading, and atomics.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use evenkeel_datapath::general::{Arrival, PARTS};
use evenkeel_datapath::layout::{
    self, Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Interface, Load,
    MarkRules, Reasons, Server, Service, TICK_SHIFT, WideBucket, WideEndpointBucket,
};
use evenkeel_datapath::word::Word;

/// An array map's value: the size of `T`, and shareable as statics must be.
#[repr(C, align(8))]
pub struct Value<T>(core::mem::MaybeUninit<T>);

// SAFETY: the value is never touched through the static, only through pointers that
// the kernel gives out, and all its fields are words that any CPU may change.
unsafe impl<T> Sync for Value<T> {}

macro_rules! arrays {
    ($($name:ident: $value:ty, $entries:expr;)+) => {
        $(#[map]
        static $name: Array<Value<$value>> =
            Array::with_max_entries($entries, BPF_F_MMAPABLE);)+
    };
}

// An array's values stand 8 bytes apart at least, so a value holds two words of the
// rings; otherwise the daemon would not see them as one run of words.
const RING_STEP: usize = 2;

// Sizes of 1 are set at loading.
arrays! {
    CONNECTIONS: Bucket, 1;
    WIDE_CONNECTIONS: WideBucket, 1;
    ADDRESSES: Addresses, 1;
    ENDPOINTS: EndpointBucket, 1;
    WIDE_ENDPOINTS: WideEndpointBucket, 1;
    SERVICES: Service, 1;
    SERVERS: Server, 1;
    RINGS: [Word; RING_STEP], 1;
    CLIENT_HOPS: ClientHop, layout::CLIENT_HOPS;
    LOADS: Load, 1;
    COUNTERS: Counters, 1;
    REASONS: Reasons, 1;
    INTERFACES: Interface, layout::INTERFACES;
    CONTROL: Control, 1;
    MARK_RULES: MarkRules, 1;
}

/// What [`evenkeel_datapath::host::Host::keep`] keeps. Of what the verifier finds here it
/// knows nothing, and so follows what is done with it once.
#[map]
static KEPT: PerCpuArray<Value<Arrival>> = PerCpuArray::with_max_entries(1, 0);

/// Keeps a packet that was taken apart.
#[inline(always)]
pub fn keep(arrival: Arrival) {
    if let Some(kept) = KEPT.get_ptr_mut(0) {
        // SAFETY: this CPU's own value, on which one packet at a time is worked.
        unsafe { kept.cast::<Arrival>().write(arrival) };
    }
}

/// What was kept.
#[inline(always)]
pub fn kept() -> Option<&'static Arrival> {
    let kept = KEPT.get_ptr(0)?;
    // SAFETY: as in `keep`; numbers and flags that `keep` has written.
    Some(unsafe { &*kept.cast() })
}

/// Answers of a CPU in a tick.
struct Answers {
    tick: u32,
    count: u32,
}

/// Most answers of a CPU in a tick, which is 64 to 640 ms.
const ANSWERS_MAX: u32 = 64;

#[map]
static ANSWERS: PerCpuArray<Answers> = PerCpuArray::with_max_entries(1, 0);

/// True: there were not too many answers in this tick.
#[inline(always)]
pub fn may_answer() -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own value.
    let answers = unsafe { &mut *answers };
    let now = tick();
    if answers.tick != now {
        answers.tick = now;
        answers.count = 0;
    }
    answers.count += 1;
    answers.count <= ANSWERS_MAX || control().is_some_and(|control| control.answers.get() == 0)
}

/// The parts of the general way, by their numbers.
#[map]
pub static XDP_PARTS: ProgramArray = ProgramArray::with_max_entries(PARTS, 0);
/// The same at tc.
#[map]
pub static TC_PARTS: ProgramArray = ProgramArray::with_max_entries(PARTS, 0);

#[unsafe(no_mangle)]
static BUCKET_MASK: u32 = 0;
#[unsafe(no_mangle)]
static ENDPOINT_MASK: u32 = 0;
#[unsafe(no_mangle)]
static WIDE_BUCKET_MASK: u32 = 0;
#[unsafe(no_mangle)]
static WIDE_ENDPOINT_MASK: u32 = 0;
#[unsafe(no_mangle)]
static SERVERS_CAPACITY: u32 = 0;
#[unsafe(no_mangle)]
static SEED: u64 = 0;

macro_rules! constants {
    ($($function:ident, $name:ident: $kind:ty;)+) => {
        $(#[inline(always)]
        pub fn $function() -> $kind {
            // SAFETY: reads a static. Volatile, because the loader puts the real
            // value there after compilation; the verifier then takes it for constant.
            unsafe { core::ptr::read_volatile(&raw const $name) }
        })+
    };
}

constants! {
    bucket_mask, BUCKET_MASK: u32;
    endpoint_mask, ENDPOINT_MASK: u32;
    wide_bucket_mask, WIDE_BUCKET_MASK: u32;
    wide_endpoint_mask, WIDE_ENDPOINT_MASK: u32;
    servers_capacity, SERVERS_CAPACITY: u32;
    seed, SEED: u64;
}

macro_rules! lookups {
    ($($function:ident, $name:ident: $value:ty;)+) => {
        $(#[inline(always)]
        pub fn $function(index: u32) -> Option<&'static $value> {
            let value = $name.get_ptr(index)?;
            // SAFETY: the kernel gave out a pointer to a value of the array, which
            // has the size of the type and lives as long as the program.
            Some(unsafe { &*value.cast() })
        })+
    };
}

lookups! {
    bucket, CONNECTIONS: Bucket;
    wide_bucket, WIDE_CONNECTIONS: WideBucket;
    endpoints, ENDPOINTS: EndpointBucket;
    wide_endpoints, WIDE_ENDPOINTS: WideEndpointBucket;
    service, SERVICES: Service;
    server, SERVERS: Server;
    ring_step, RINGS: [Word; RING_STEP];
    client_hop, CLIENT_HOPS: ClientHop;
    load, LOADS: Load;
    interface_at, INTERFACES: Interface;
}

/// A word of the rings.
#[inline(always)]
pub fn ring(index: u32) -> Option<&'static Word> {
    let step = RING_STEP as u32;
    ring_step(index / step)?.get((index % step) as usize)
}

/// The word of the rings at an even index, and the next.
#[inline(always)]
pub fn ring_pair(index: u32) -> Option<&'static [Word; 2]> {
    ring_step(index / RING_STEP as u32)
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() as u32 }
}

/// The interface's record, if it has one.
#[inline(always)]
pub fn interface(index: u32) -> Option<&'static Interface> {
    let record = interface_at(index & (layout::INTERFACES - 1))?;
    (record.index.get() == index).then_some(record)
}

/// The control record.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let value = CONTROL.get_ptr(0)?;
    // SAFETY: as in `lookups`.
    Some(unsafe { &*value.cast() })
}

/// The rules that mark packets.
#[inline(always)]
pub fn mark_rules() -> Option<&'static MarkRules> {
    let value = MARK_RULES.get_ptr(0)?;
    // SAFETY: as in `lookups`.
    Some(unsafe { &*value.cast() })
}

/// The addresses of all endpoints.
#[inline(always)]
pub fn addresses() -> Option<&'static Addresses> {
    let value = ADDRESSES.get_ptr(0)?;
    // SAFETY: as in `lookups`.
    Some(unsafe { &*value.cast() })
}

/// This CPU's counters of a server.
#[inline(always)]
pub fn counters(server: u32) -> Option<&'static Counters> {
    let value = COUNTERS.get_ptr(cpu() * servers_capacity() + server)?;
    // SAFETY: as in `lookups`.
    Some(unsafe { &*value.cast() })
}

/// This CPU's reasons.
#[inline(always)]
pub fn reasons() -> Option<&'static Reasons> {
    let value = REASONS.get_ptr(cpu())?;
    // SAFETY: as in `lookups`.
    Some(unsafe { &*value.cast() })
}

/// The present tick.
#[inline(always)]
pub fn tick() -> u32 {
    // SAFETY: a helper without arguments; the verifier replaces it by a load.
    (unsafe { bpf_jiffies64() } >> TICK_SHIFT) as u32
}

#[inline(always)]
fn pointer(word: &Word) -> *mut u32 {
    core::ptr::from_ref(word).cast_mut().cast()
}

/// Stores `new` if the word is `old`; true when it was.
#[inline(always)]
pub fn compare_and_swap(word: &Word, old: u32, new: u32) -> bool {
    // SAFETY: the word is aligned memory of a map, open to every CPU.
    unsafe {
        atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            pointer(word),
            old,
            new,
        )
        .1
    }
}

/// Adds, wrapping; the value before.
#[inline(always)]
pub fn add(word: &Word, amount: u32) -> u32 {
    // SAFETY: as in `compare_and_swap`.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(pointer(word), amount) }
}

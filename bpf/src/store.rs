//! The maps as the packet path's memory, and the parts of the packet path that are
//! functions of their own: the verifier looks at each of them once, and not again
//! wherever it is called.

use crate::maps;
use evenkeel_datapath::evict::Victim;
use evenkeel_datapath::hash::Place;
use evenkeel_datapath::layout::{Bucket, NOBODY, WideBucket};
use evenkeel_datapath::schedule::{self, Request};
use evenkeel_datapath::table::{WantedNarrow, WantedWide};
use evenkeel_datapath::{endpoint, evict, general, locality, relocate, room, state, table, tree};

/// The maps alone.
pub struct Maps;

/// [`evenkeel_datapath::host::Ledger`] and [`evenkeel_datapath::host::Store`] over the
/// maps, with `noise` for [`crate::packet::opaque`].
#[macro_export]
macro_rules! store {
    ($kernel:ty, $noise:expr) => {
        impl evenkeel_datapath::host::Ledger for $kernel {
            #[inline(always)]
            fn service(&self, index: u32) -> Option<&evenkeel_datapath::layout::Service> {
                $crate::maps::service(index)
            }
            #[inline(always)]
            fn server(&self, index: u32) -> Option<&evenkeel_datapath::layout::Server> {
                $crate::maps::server(index)
            }
            #[inline(always)]
            fn ring(&self, index: u32) -> Option<&evenkeel_datapath::word::Word> {
                $crate::maps::ring(index)
            }
            #[inline(always)]
            fn ring_pair(&self, index: u32) -> Option<&[evenkeel_datapath::word::Word; 2]> {
                $crate::maps::ring_pair(index)
            }
            #[inline(always)]
            fn load(&self, server: u32) -> Option<&evenkeel_datapath::layout::Load> {
                $crate::maps::load(server)
            }
            #[inline(always)]
            fn compare_and_swap(
                &self,
                word: &evenkeel_datapath::word::Word,
                old: u32,
                new: u32,
            ) -> bool {
                $crate::maps::compare_and_swap(word, old, new)
            }
            #[inline(always)]
            fn add(&self, word: &evenkeel_datapath::word::Word, amount: u32) -> u32 {
                $crate::maps::add(word, amount)
            }
            #[inline(always)]
            fn rank(&self, server: u32) {
                $crate::store::evenkeel_rank(server);
            }
        }

        impl evenkeel_datapath::host::Store for $kernel {
            #[inline(always)]
            fn tick(&self) -> u32 {
                $crate::maps::tick()
            }
            #[inline(always)]
            fn bucket_mask(&self) -> u32 {
                $crate::maps::bucket_mask()
            }
            #[inline(always)]
            fn wide_bucket_mask(&self) -> u32 {
                $crate::maps::wide_bucket_mask()
            }
            #[inline(always)]
            fn endpoint_mask(&self) -> u32 {
                $crate::maps::endpoint_mask()
            }
            #[inline(always)]
            fn wide_endpoint_mask(&self) -> u32 {
                $crate::maps::wide_endpoint_mask()
            }
            #[inline(always)]
            fn seed(&self) -> u64 {
                $crate::maps::seed()
            }
            #[inline(always)]
            fn control(&self) -> Option<&evenkeel_datapath::layout::Control> {
                $crate::maps::control()
            }
            #[inline(always)]
            fn bucket(&self, index: u32) -> Option<&evenkeel_datapath::layout::Bucket> {
                $crate::maps::bucket(index)
            }
            #[inline(always)]
            fn wide_bucket(&self, index: u32) -> Option<&evenkeel_datapath::layout::WideBucket> {
                $crate::maps::wide_bucket(index)
            }
            #[inline(always)]
            fn addresses(&self) -> Option<&evenkeel_datapath::layout::Addresses> {
                $crate::maps::addresses()
            }
            #[inline(always)]
            fn endpoints(&self, index: u32) -> Option<&evenkeel_datapath::layout::EndpointBucket> {
                $crate::maps::endpoints(index)
            }
            #[inline(always)]
            fn wide_endpoints(
                &self,
                index: u32,
            ) -> Option<&evenkeel_datapath::layout::WideEndpointBucket> {
                $crate::maps::wide_endpoints(index)
            }
            #[inline(always)]
            fn client_hop(&self, index: u32) -> Option<&evenkeel_datapath::layout::ClientHop> {
                $crate::maps::client_hop(index)
            }
            #[inline(always)]
            fn counters(&self, server: u32) -> Option<&evenkeel_datapath::layout::Counters> {
                $crate::maps::counters(server)
            }
            #[inline(always)]
            fn mark_rules(&self) -> Option<&evenkeel_datapath::layout::MarkRules> {
                $crate::maps::mark_rules()
            }
            #[inline(always)]
            fn marked(&self, interface: u32) -> u32 {
                $crate::store::evenkeel_marked(interface)
            }
            #[inline(always)]
            fn fits(&self, place: u32, interface: u32) -> u32 {
                $crate::store::evenkeel_fits(place, interface)
            }
            #[inline(always)]
            fn reasons(&self) -> Option<&evenkeel_datapath::layout::Reasons> {
                $crate::maps::reasons()
            }
            #[inline(always)]
            fn opaque(&self, value: u32) -> u32 {
                let noise: fn(&Self) -> u32 = $noise;
                $crate::packet::opaque(value, noise(self))
            }
            #[inline(always)]
            fn veiled(&self, value: u32) -> u32 {
                $crate::packet::veiled(value)
            }
            #[inline(always)]
            fn probe(&self, bucket: u32, key: u64) -> u64 {
                $crate::store::evenkeel_probe(bucket, key)
            }
            #[inline(always)]
            fn probe_wide(&self, bucket: u32, end: u32, key: u32) -> u64 {
                $crate::store::evenkeel_probe_wide(bucket, end, key)
            }
            #[inline(always)]
            fn reserve(&self, reference: u32) -> u32 {
                $crate::store::evenkeel_reserve(reference)
            }
            #[inline(always)]
            fn hold(&self, server: u32, port: u32, reference: u32, flags: u32) -> u32 {
                $crate::store::evenkeel_hold(server, port, reference, flags)
            }
            #[inline(always)]
            fn disconnect(&self) -> u32 {
                $crate::store::evenkeel_disconnect()
            }
            #[inline(always)]
            fn may_answer(&self) -> bool {
                $crate::maps::may_answer()
            }
            #[inline(always)]
            fn kept(&self) -> Option<&evenkeel_datapath::general::Arrival> {
                $crate::maps::kept()
            }
            #[inline(always)]
            fn seek(&self, end: u32, port: u32, kind: u32) -> u32 {
                $crate::store::evenkeel_seek(end, port, kind)
            }
            #[inline(always)]
            fn find(
                &self,
                place: evenkeel_datapath::hash::Place,
                wanted: &evenkeel_datapath::table::WantedNarrow,
            ) -> u32 {
                $crate::store::evenkeel_find(place.bucket, place.signature, wanted)
            }
            #[inline(always)]
            fn find_wide(
                &self,
                place: evenkeel_datapath::hash::Place,
                wanted: &evenkeel_datapath::table::WantedWide,
            ) -> u32 {
                $crate::store::evenkeel_find_wide(place.bucket, place.signature, wanted)
            }
            #[inline(always)]
            fn next_state(&self, protocol: u32, present: u32, event: u32, direction: u32) -> u32 {
                $crate::store::evenkeel_next_state(protocol, present, event, direction)
            }
            #[inline(always)]
            fn is_idle(&self, at: u32) -> u32 {
                $crate::store::evenkeel_is_idle(at)
            }
            #[inline(always)]
            fn claim<B: evenkeel_datapath::table::Buckets>(
                &self,
                place: evenkeel_datapath::hash::Place,
            ) -> u64 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_claim_wide(place.bucket, place.signature)
                } else {
                    $crate::store::evenkeel_claim(place.bucket, place.signature)
                }
            }
            #[inline(always)]
            fn make_room<B: evenkeel_datapath::table::Buckets>(
                &self,
                place: evenkeel_datapath::hash::Place,
            ) -> u64 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_make_room_wide(place.bucket, place.signature)
                } else {
                    $crate::store::evenkeel_make_room(place.bucket, place.signature)
                }
            }
            #[inline(always)]
            fn relocate<B: evenkeel_datapath::table::Buckets>(&self, bucket: u32, way: u32) -> u32 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_relocate_wide(bucket, way)
                } else {
                    $crate::store::evenkeel_relocate(bucket, way)
                }
            }
            #[inline(always)]
            fn relocate_far<B: evenkeel_datapath::table::Buckets>(
                &self,
                bucket: u32,
                way: u32,
            ) -> u32 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_relocate_far_wide(bucket, way)
                } else {
                    $crate::store::evenkeel_relocate_far(bucket, way)
                }
            }
            #[inline(always)]
            fn first_to_go<B: evenkeel_datapath::table::Buckets>(&self, bucket: u32) -> u64 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_first_to_go_wide(bucket)
                } else {
                    $crate::store::evenkeel_first_to_go(bucket)
                }
            }
            #[inline(always)]
            fn evict<B: evenkeel_datapath::table::Buckets>(
                &self,
                bucket: u32,
                victim: evenkeel_datapath::evict::Victim,
                signature: u32,
            ) -> u64 {
                if B::IS_WIDE {
                    $crate::store::evenkeel_evict_wide(bucket, victim.packed(), signature)
                } else {
                    $crate::store::evenkeel_evict(bucket, victim.packed(), signature)
                }
            }
            #[inline(always)]
            fn available_at(&self, ring: u32, slot: u32) -> u32 {
                $crate::store::evenkeel_available_at(ring, slot)
            }
            #[inline(always)]
            fn is_any_idle(&self, service: u32) -> u32 {
                $crate::store::evenkeel_is_any_idle(service)
            }
            #[inline(always)]
            fn template(&self) -> u32 {
                $crate::store::evenkeel_template()
            }
            #[inline(always)]
            fn note_template(&self, server: u32) -> u32 {
                $crate::store::evenkeel_note_template(server)
            }
            #[inline(always)]
            fn note_locally(&self, service: u32, server: u32) -> u32 {
                $crate::store::evenkeel_note_locally(service, server)
            }
            #[inline(always)]
            fn decide_locally(
                &self,
                service: u32,
                request: &evenkeel_datapath::schedule::Request,
            ) -> u32 {
                $crate::store::evenkeel_decide_locally(service, request)
            }
            #[inline(always)]
            fn decide(&self, service: u32, request: &evenkeel_datapath::schedule::Request) -> u32 {
                $crate::store::evenkeel_decide(service, request)
            }
        }
    };
}

store!(Maps, |_| maps::tick());

/// [`tree::changed`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_rank(server: u32) -> u32 {
    tree::changed(&Maps, server);
    0
}

/// [`table::location_of`] in the table of IPv4 connections.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_find(bucket: u32, signature: u32, wanted: *const WantedNarrow) -> u32 {
    // SAFETY: the verifier allows callers no other pointer than one to what is wanted,
    // or none.
    let wanted = unsafe { wanted.as_ref() };
    let place = Place { bucket, signature };
    wanted.map_or(0, |wanted| {
        table::location_of::<_, Bucket>(&Maps, place, *wanted)
    })
}

/// [`table::location_of`] in the table of wide entries.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_find_wide(
    bucket: u32,
    signature: u32,
    wanted: *const WantedWide,
) -> u32 {
    // SAFETY: as in `evenkeel_find`.
    let wanted = unsafe { wanted.as_ref() };
    let place = Place { bucket, signature };
    wanted.map_or(0, |wanted| {
        table::location_of::<_, WideBucket>(&Maps, place, *wanted)
    })
}

/// [`state::next`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_next_state(
    protocol: u32,
    present: u32,
    event: u32,
    direction: u32,
) -> u32 {
    state::next(&Maps, protocol, present, event, direction)
}

/// [`locality::is_idle`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_is_idle(at: u32) -> u32 {
    locality::is_idle(&Maps, at)
}

/// [`endpoint::probe`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_probe(bucket: u32, key: u64) -> u64 {
    endpoint::probe(&Maps, bucket, key)
}

/// [`general::probe_wide`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_probe_wide(bucket: u32, end: u32, key: u32) -> u64 {
    general::probe_wide(&Maps, bucket, end, key)
}

/// [`general::reserve`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_reserve(reference: u32) -> u32 {
    general::reserve(&Maps, reference)
}

/// [`general::hold`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_hold(server: u32, port: u32, reference: u32, flags: u32) -> u32 {
    general::hold(&Maps, server, port, reference, flags)
}

/// [`general::disconnect`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_disconnect() -> u32 {
    general::disconnect(&Maps)
}

/// [`general::marked`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_marked(interface: u32) -> u32 {
    general::marked(&Maps, interface)
}

/// [`general::fits`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_fits(place: u32, interface: u32) -> u32 {
    general::fits(&Maps, place, interface)
}

/// [`general::seek`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_seek(end: u32, port: u32, kind: u32) -> u32 {
    general::seek(&Maps, end, port, kind)
}

/// A function for each of the two tables.
macro_rules! of_tables {
    ($($narrow:ident, $wide:ident($($name:ident: $type:ty),+) -> $result:ty {
        $module:ident::$function:ident($($argument:expr),+)
    })+) => {$(
        #[doc = concat!("[`", stringify!($module), "::", stringify!($function), "`]")]
        /// in the table of IPv4 connections.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $narrow($($name: $type),+) -> $result {
            $module::$function::<_, Bucket>(&Maps, $($argument),+)
        }

        #[doc = concat!("[`", stringify!($module), "::", stringify!($function), "`]")]
        /// in the table of wide entries.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $wide($($name: $type),+) -> $result {
            $module::$function::<_, WideBucket>(&Maps, $($argument),+)
        }
    )+};
}

of_tables! {
    evenkeel_claim, evenkeel_claim_wide(bucket: u32, signature: u32) -> u64 {
        table::claim(Place { bucket, signature })
    }
    evenkeel_make_room, evenkeel_make_room_wide(bucket: u32, signature: u32) -> u64 {
        room::make(Place { bucket, signature })
    }
    evenkeel_relocate, evenkeel_relocate_wide(bucket: u32, way: u32) -> u32 {
        relocate::relocate(bucket, way)
    }
    evenkeel_relocate_far, evenkeel_relocate_far_wide(bucket: u32, way: u32) -> u32 {
        relocate::relocate_far(bucket, way)
    }
    evenkeel_first_to_go, evenkeel_first_to_go_wide(bucket: u32) -> u64 {
        evict::first(bucket)
    }
    evenkeel_evict, evenkeel_evict_wide(bucket: u32, victim: u64, signature: u32) -> u64 {
        evict::evict(bucket, Victim::unpacked(victim), signature)
    }
}

/// [`schedule::available_at`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_available_at(ring: u32, slot: u32) -> u32 {
    schedule::available_at(&Maps, ring, slot)
}

/// [`locality::is_any_idle`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_is_any_idle(service: u32) -> u32 {
    locality::is_any_idle(&Maps, service)
}

/// [`general::template`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_template() -> u32 {
    general::template(&Maps)
}

/// [`general::note_template`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_note_template(server: u32) -> u32 {
    general::note_template(&Maps, server)
}

/// [`locality::note`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_note_locally(service: u32, server: u32) -> u32 {
    locality::note(&Maps, service, server)
}

/// [`locality::decide`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_decide_locally(service: u32, request: *const Request) -> u32 {
    // SAFETY: as in `evenkeel_decide`.
    let request = unsafe { request.as_ref() };
    request.map_or(NOBODY, |request| locality::decide(&Maps, service, request))
}

/// [`schedule::decide`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evenkeel_decide(service: u32, request: *const Request) -> u32 {
    // SAFETY: the verifier allows callers no other pointer than one to a request, or
    // none.
    let request = unsafe { request.as_ref() };
    request.map_or(NOBODY, |request| schedule::decide(&Maps, service, request))
}

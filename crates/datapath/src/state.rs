//! Connection states, their numbers in memory, and how packets change them: IPVS's
//! tables for TCP, as usual and for `secure_tcp`, and for SCTP, for a director that sees
//! both directions or one.

use crate::frame::protocol;
use crate::host::Store;
use crate::layout::{settings, state_word};

/// Not live.
pub const FREE: u32 = 0;
/// Nothing seen yet.
pub const NONE: u32 = 1;
/// Both sides have answered.
pub const ESTABLISHED: u32 = 2;
/// The server opened.
pub const SYN_SENT: u32 = 3;
/// The client opened.
pub const SYN_RECV: u32 = 4;
/// The server has closed its side.
pub const FIN_WAIT: u32 = 5;
/// Both sides have closed.
pub const TIME_WAIT: u32 = 6;
/// Reset.
pub const CLOSE: u32 = 7;
/// The client has closed its side.
pub const CLOSE_WAIT: u32 = 8;
/// Waiting for the last acknowledgement.
pub const LAST_ACK: u32 = 9;
/// IPVS knows it; no transition leads here for NAT.
pub const LISTEN: u32 = 10;
/// A SYN was answered before the client's arrived.
pub const SYNACK: u32 = 11;
/// A UDP flow.
pub const UDP: u32 = 12;
/// No connection: which server a client stays with. A
/// [`WideEntry`](crate::layout::WideEntry) whose client address is masked.
pub const TEMPLATE: u32 = 13;
/// No connection: finds the connection that an answer to a translated source belongs
/// to. Its client is the translated source, its virtual address and ports the client
/// and the server's; in place of a hop it has what the connection has in place of a
/// server's tag.
pub const TRANSLATED: u32 = 14;
/// No connection: which connection the fragments of a packet belong to.
pub const FRAGMENT: u32 = 15;
/// SCTP (`ip_vs_proto_sctp.c`), from here to [`SCTP_CLOSED`]: nothing seen yet.
pub const SCTP_NONE: u32 = 16;
/// An INIT, not yet answered.
pub const SCTP_INIT1: u32 = 17;
/// Further INITs.
pub const SCTP_INIT: u32 = 18;
/// The client has sent its cookie.
pub const SCTP_COOKIE_SENT: u32 = 19;
/// The server has answered a cookie.
pub const SCTP_COOKIE_REPLIED: u32 = 20;
/// The server waits for a cookie.
pub const SCTP_COOKIE_WAIT: u32 = 21;
/// The client has the server's cookie.
pub const SCTP_COOKIE: u32 = 22;
/// The client has echoed it.
pub const SCTP_COOKIE_ECHOED: u32 = 23;
/// Both sides have answered.
pub const SCTP_ESTABLISHED: u32 = 24;
/// The client shuts down.
pub const SCTP_SHUTDOWN_SENT: u32 = 25;
/// The server shuts down.
pub const SCTP_SHUTDOWN_RECEIVED: u32 = 26;
/// A shutdown was acknowledged.
pub const SCTP_SHUTDOWN_ACK_SENT: u32 = 27;
/// An error ended it.
pub const SCTP_REJECTED: u32 = 28;
/// Over.
pub const SCTP_CLOSED: u32 = 29;
/// No connection: the servers of a destination, for the schedulers lblc and lblcr.
pub const LOCALITY: u32 = 30;

/// True for the states that are no connection.
#[inline(always)]
#[must_use]
pub const fn is_auxiliary(state: u32) -> bool {
    const THESE: u32 = 1 << TEMPLATE | 1 << TRANSLATED | 1 << FRAGMENT | 1 << LOCALITY;
    (THESE >> (state & state_word::STATE)) & 1 == 1
}

/// A set of states, a bit each: neither side, or only one, has said that the connection is
/// there.
pub(crate) const HALF_OPEN: u32 = 1 << NONE
    | 1 << SYN_RECV
    | 1 << SYN_SENT
    | 1 << SYNACK
    | 1 << SCTP_NONE
    | 1 << SCTP_INIT1
    | 1 << SCTP_INIT
    | 1 << SCTP_COOKIE_SENT
    | 1 << SCTP_COOKIE_REPLIED
    | 1 << SCTP_COOKIE_WAIT
    | 1 << SCTP_COOKIE
    | 1 << SCTP_COOKIE_ECHOED;

/// True for the states of TCP and SCTP before a connection is established.
#[inline(always)]
#[must_use]
pub const fn is_half_open(state: u32) -> bool {
    (HALF_OPEN >> (state & state_word::STATE)) & 1 == 1
}

/// True for the states of TCP and SCTP in which a connection is established.
#[inline(always)]
#[must_use]
pub const fn is_established(state: u32) -> bool {
    const THESE: u32 = 1 << ESTABLISHED | 1 << SCTP_ESTABLISHED;
    (THESE >> (state & state_word::STATE)) & 1 == 1
}

/// True for states that `ActiveConn` counts (IPVS: `tcp_state_active_table`).
#[inline(always)]
#[must_use]
pub const fn is_active(state: u32) -> bool {
    const ACTIVE: u32 =
        1 << ESTABLISHED | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK | 1 << SCTP_ESTABLISHED;
    (ACTIVE >> (state & state_word::STATE)) & 1 == 1
}

/// TCP flags as they stand in byte 13 of the header.
pub mod tcp_flags {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Open.
    pub const SYN: u8 = 2;
    /// Abort.
    pub const RST: u8 = 4;
    /// Acknowledgement.
    pub const ACK: u8 = 16;
}

/// Next states by present state, a nibble each, FREE first. Columns as IPVS writes
/// them: `NONE ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT TIME_WAIT CLOSE CLOSE_WAIT`,
/// `LAST_ACK LISTEN SYNACK`.
const fn row(next: [u32; 11]) -> u64 {
    let mut packed = 0;
    let mut i = 0;
    while i < 11 {
        packed |= (next[i] as u64) << (4 * (i + 1));
        i += 1;
    }
    packed
}

const NO: u32 = NONE;
const ES: u32 = ESTABLISHED;
const SS: u32 = SYN_SENT;
const SR: u32 = SYN_RECV;
const FW: u32 = FIN_WAIT;
const TW: u32 = TIME_WAIT;
const CL: u32 = CLOSE;
const CW: u32 = CLOSE_WAIT;
const LA: u32 = LAST_ACK;
const LI: u32 = LISTEN;
const SA: u32 = SYNACK;
const _: u32 = NO + SA;

const INPUT_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
const INPUT_FIN: u64 = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]);
const INPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
const INPUT_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]);
const OUTPUT_SYN: u64 = row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]);
const OUTPUT_FIN: u64 = row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]);
const OUTPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]);
const OUTPUT_RST: u64 = row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]);

// Where the director sees the client's packets alone. Two rows differ from `INPUT`.
const ALONE_FIN: u64 = row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]);
const ALONE_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);

// The bits in which the rows of `secure_tcp` (IPVS's `tcp_states_dos`) differ from these:
// only what the server sends establishes a connection.
const SECURE_INPUT_SYN: u64 = INPUT_SYN ^ row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA]);
const SECURE_INPUT_FIN: u64 = INPUT_FIN ^ row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA]);
const SECURE_INPUT_ACK: u64 = INPUT_ACK ^ row([ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA]);
const SECURE_INPUT_RST: u64 = INPUT_RST ^ row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);
const SECURE_OUTPUT_SYN: u64 = OUTPUT_SYN ^ row([SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA]);
const SECURE_ALONE_SYN: u64 = INPUT_SYN ^ row([SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA]);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// From the client to the server.
    Input = 0,
    /// From the server to the client.
    Output = 1,
    /// From the client to a server that answers past the director.
    InputOnly = 2,
}

/// True: a TCP packet with these flags leaves the state as it is, by whatever table. By
/// far the most do.
#[inline(always)]
#[must_use]
pub const fn is_steady(state: u32, flags: u8) -> bool {
    const THESE: u8 = tcp_flags::RST | tcp_flags::SYN | tcp_flags::FIN | tcp_flags::ACK;
    flags & THESE == tcp_flags::ACK && state == ESTABLISHED
}

/// The state after a TCP packet with these flags. RST counts before SYN, FIN and
/// ACK, in this order; a packet with none of them changes nothing.
#[inline(always)]
#[must_use]
pub fn next_tcp(state: u32, flags: u8, direction: Direction) -> u32 {
    if is_steady(state, flags) {
        return ESTABLISHED;
    }
    next_by(state, flags, direction, 0)
}

/// `secure`: which of the bits count in which the rows of `secure_tcp` differ.
#[inline(always)]
fn next_by(state: u32, flags: u8, direction: Direction, secure: u64) -> u32 {
    let input = !matches!(direction, Direction::Output);
    let alone = matches!(direction, Direction::InputOnly);
    let (usual, different) = if flags & tcp_flags::RST != 0 {
        if alone {
            (ALONE_RST, 0)
        } else if input {
            (INPUT_RST, SECURE_INPUT_RST)
        } else {
            (OUTPUT_RST, 0)
        }
    } else if flags & tcp_flags::SYN != 0 {
        if alone {
            (INPUT_SYN, SECURE_ALONE_SYN)
        } else if input {
            (INPUT_SYN, SECURE_INPUT_SYN)
        } else {
            (OUTPUT_SYN, SECURE_OUTPUT_SYN)
        }
    } else if flags & tcp_flags::FIN != 0 {
        if alone {
            (ALONE_FIN, 0)
        } else if input {
            (INPUT_FIN, SECURE_INPUT_FIN)
        } else {
            (OUTPUT_FIN, 0)
        }
    } else if flags & tcp_flags::ACK != 0 {
        if alone {
            (INPUT_ACK, 0)
        } else if input {
            (INPUT_ACK, SECURE_INPUT_ACK)
        } else {
            (OUTPUT_ACK, 0)
        }
    } else {
        return state;
    };
    (((usual ^ different & secure) >> (4 * (state & 0xf))) & 0xf) as u32
}

/// What an SCTP packet's first chunk means (`sctp_events` of the kernel).
#[inline(always)]
const fn sctp_event(chunk: u8) -> u32 {
    // By chunk type, a nibble each: everything unknown counts as data.
    const EVENTS: u64 = {
        let events = [0, 1, 2, 0, 0, 0, 9, 5, 6, 8, 3, 4, 0, 0, 7, 0];
        let mut packed = 0;
        let mut i = 0;
        while i < 16 {
            packed |= events[i] << (4 * i);
            i += 1;
        }
        packed
    };
    if chunk < 16 {
        ((EVENTS >> (4 * chunk)) & 0xf) as u32
    } else {
        0
    }
}

/// Next SCTP states by present state, a nibble each, [`SCTP_NONE`] lowest: rows by
/// direction and event.
static SCTP: [u64; 32] = [
    // from the client
    0xdc_ba98_7654_3218, // data
    0x22_ba98_7654_3221, // INIT
    0xdc_ba98_7664_3555, // INIT ACK
    0xdc_ba98_7654_4224, // COOKIE ECHO
    0xdc_ba98_8654_3218, // COOKIE ACK
    0xdc_ba9a_7654_321a, // SHUTDOWN
    0xdc_dad8_7654_322d, // SHUTDOWN ACK
    0xdc_da98_7654_3ddd, // SHUTDOWN COMPLETE
    0xdc_ba98_d654_321d, // ERROR
    0xdd_dddd_ddcd_dddd, // ABORT
    // from the server
    0xdc_ba98_7654_3218, // data
    0x55_5558_5555_5555, // INIT
    0xdc_ba98_7654_3333, // INIT ACK
    0xdc_ba98_7777_7777, // COOKIE ECHO
    0xdc_ba98_8888_8888, // COOKIE ACK
    0xdc_ba99_9999_9999, // SHUTDOWN
    0xdc_bbb8_765b_bbbb, // SHUTDOWN ACK
    0xdc_ba98_7654_321d, // SHUTDOWN COMPLETE
    0xdc_ba98_765d_dddd, // ERROR
    0xdd_dddd_dddd_ddcd, // ABORT
    // from the client alone
    0xdc_ba98_7684_3218, // data
    0x22_ba98_7622_2221, // INIT
    0xdc_ba98_7677_7777, // INIT ACK
    0xdc_ba98_7688_8888, // COOKIE ECHO
    0xdc_ba98_8858_8218, // COOKIE ACK
    0xdc_ba9a_7654_321a, // SHUTDOWN
    0xdc_dadd_7654_322d, // SHUTDOWN ACK
    0xdc_dd98_765d_dddd, // SHUTDOWN COMPLETE
    0xdc_ba98_7654_321d, // ERROR
    0xdd_dddd_ddcd_dddd, // ABORT
    0,
    0,
];

/// The state after an SCTP packet whose first chunk is of this type.
#[inline(always)]
#[must_use]
pub fn next_sctp(state: u32, chunk: u8, direction: Direction) -> u32 {
    let row = SCTP[(direction as u32 * 10 + sctp_event(chunk)) as usize & 31];
    SCTP_NONE + ((row >> (4 * (state & 0xf))) & 0xf) as u32
}

/// The state after a packet of a protocol, by the instance's settings. `event`: TCP's
/// flags, or the type of an SCTP packet's first chunk.
#[inline(always)]
#[must_use]
pub fn next<S: Store>(store: &S, protocol: u32, present: u32, event: u32, direction: u32) -> u32 {
    let direction = match direction {
        0 => Direction::Input,
        1 => Direction::Output,
        _ => Direction::InputOnly,
    };
    let state = present & state_word::STATE;
    match protocol as u8 {
        protocol::TCP => {
            let flags = event as u8;
            if is_steady(state, flags) {
                return ESTABLISHED;
            }
            let settings = store.control().map_or(0, |control| control.settings.get());
            let is_secure = settings >> settings::SECURE_TCP.trailing_zeros() & 1;
            next_by(state, flags, direction, u64::from(is_secure).wrapping_neg())
        }
        protocol::SCTP => next_sctp(state, event as u8, direction),
        _ => UDP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Input, Output};
    use tcp_flags::{ACK, FIN, RST, SYN};

    #[test]
    fn an_ordinary_connection_goes_through_ipvs_states() {
        let mut state = NONE;
        for (flags, direction, expected) in [
            (SYN, Input, SYN_RECV),
            (SYN | ACK, Output, SYN_RECV),
            (ACK, Input, ESTABLISHED),
            (ACK, Output, ESTABLISHED),
            (FIN | ACK, Output, FIN_WAIT),
            (ACK, Input, FIN_WAIT),
            (FIN | ACK, Input, TIME_WAIT),
            (ACK, Output, TIME_WAIT),
            (SYN, Input, SYN_RECV),
        ] {
            state = next_tcp(state, flags, direction);
            assert_eq!(state, expected, "{flags:#x} {direction:?}");
        }
    }

    #[test]
    fn reset_counts_before_everything() {
        assert_eq!(next_tcp(ESTABLISHED, RST | SYN | FIN | ACK, Input), CLOSE);
        assert_eq!(next_tcp(SYN_RECV, RST, Input), SYN_RECV);
        assert_eq!(next_tcp(SYN_RECV, RST | ACK, Output), CLOSE);
    }

    #[test]
    fn seen_from_one_side() {
        let mut state = NONE;
        for (flags, expected) in [
            (SYN, SYN_RECV),
            (ACK, ESTABLISHED),
            (FIN | ACK, FIN_WAIT),
            (ACK, FIN_WAIT),
            (RST, CLOSE),
        ] {
            state = next_tcp(state, flags, Direction::InputOnly);
            assert_eq!(state, expected, "{flags:#x}");
        }
    }

    #[test]
    fn an_sctp_association() {
        let (init, init_ack, echo, echo_ack) = (1, 2, 10, 11);
        let mut state = SCTP_NONE;
        for (chunk, direction, expected) in [
            (init, Input, SCTP_INIT1),
            (init_ack, Output, SCTP_COOKIE_SENT),
            (echo, Input, SCTP_COOKIE_REPLIED),
            (echo_ack, Output, SCTP_ESTABLISHED),
            (0, Input, SCTP_ESTABLISHED),
            (0x80, Output, SCTP_ESTABLISHED),
            (7, Input, SCTP_SHUTDOWN_RECEIVED),
            (8, Output, SCTP_SHUTDOWN_ACK_SENT),
            (14, Input, SCTP_CLOSED),
        ] {
            state = next_sctp(state, chunk, direction);
            assert_eq!(state, expected, "{chunk} {direction:?}");
        }
        assert_eq!(next_sctp(SCTP_INIT1, 6, Output), SCTP_REJECTED);
    }

    #[test]
    fn with_secure_tcp_the_server_establishes() {
        let next_secure_tcp = |state, flags, direction| next_by(state, flags, direction, u64::MAX);
        let mut state = NONE;
        for (flags, direction, expected) in [
            (SYN, Input, SYN_RECV),
            (ACK, Input, SYN_RECV),
            (SYN | ACK, Output, SYNACK),
            (ACK, Input, SYNACK),
            (ACK, Output, ESTABLISHED),
            (FIN | ACK, Input, CLOSE_WAIT),
            (FIN | ACK, Output, TIME_WAIT),
        ] {
            state = next_secure_tcp(state, flags, direction);
            assert_eq!(state, expected, "{flags:#x} {direction:?}");
        }
        let alone = Direction::InputOnly;
        assert_eq!(next_secure_tcp(NONE, SYN, alone), SYNACK);
        assert_eq!(next_secure_tcp(SYNACK, ACK, alone), ESTABLISHED);
        assert_eq!(next_secure_tcp(SYNACK, RST, Input), CLOSE);
        // What is established stays so.
        for flags in [0, ACK, SYN, SYN | ACK] {
            for direction in [Input, Output, alone] {
                assert_eq!(next_secure_tcp(ESTABLISHED, flags, direction), ESTABLISHED);
            }
        }
    }

    #[test]
    fn no_flag_changes_nothing() {
        for state in NONE..=SYNACK {
            assert_eq!(next_tcp(state, 0, Input), state);
            assert_eq!(next_tcp(state, 0x20, Output), state);
        }
    }

    #[test]
    fn five_states_are_active() {
        let active: std::vec::Vec<u32> = (0..32).filter(|&s| is_active(s)).collect();
        assert_eq!(
            active,
            [ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK, SCTP_ESTABLISHED]
        );
    }
}

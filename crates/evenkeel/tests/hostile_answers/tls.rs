//! What a server says where TLS is expected.

use std::io;

use rustls::ClientConnection;

use super::cuts::pieces;

/// What becomes of a connection to which these pieces come.
fn outcome<'a>(
    mut client: ClientConnection,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), String> {
    for mut piece in pieces {
        while !piece.is_empty() {
            let read = client.read_tls(&mut piece);
            assert!(read.is_ok_and(|count| count > 0));
            let state = client
                .process_new_packets()
                .map_err(|error| format!("{error:?}"))?;
            assert_eq!(state.plaintext_bytes_to_read(), 0, "no handshake, but data");
            while client.wants_write() {
                client.write_tls(&mut io::sink()).expect("it takes all");
            }
        }
    }
    assert!(client.is_handshaking());
    Ok(())
}

/// Nobody who does not know the client's secrets gets through a handshake or has data taken,
/// and the error is the same however the bytes are cut.
pub(crate) fn judge(client: impl Fn() -> ClientConnection, records: &[u8]) {
    let whole = outcome(client(), [records]);
    assert_eq!(outcome(client(), pieces(records)), whole);
}

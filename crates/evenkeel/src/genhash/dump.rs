//! Bytes as `genhash -v` shows them.

use std::io::{self, Write};

macro_rules! title {
    ($text:literal) => {
        concat!(
            "-----------------------[",
            $text,
            "]-----------------------\n"
        )
    };
}

/// Before a header's bytes.
pub(super) const HEADER_HEX: &str = title!("    HTTP Header Buffer    ");
/// Before a header's text.
pub(super) const HEADER_ASCII: &str = title!(" HTTP Header Ascii Buffer ");
/// Before the first bytes of a body.
pub(super) const BODY: &str = title!("        HTML Buffer        ");
/// Before a digest's bytes.
pub(super) const RESULT: &str = title!("    HTML hash resulting    ");
/// Before a digest.
pub(super) const FINAL: &str = title!(" HTML hash final resulting ");

/// Sixteen bytes a line: where they are, in hexadecimal digits, and as text.
pub(super) fn bytes(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for (index, line) in bytes.chunks(16).enumerate() {
        write!(out, "{:04} ", (index * 16) & 0xffff)?;
        for at in 0..16 {
            match line.get(at) {
                Some(byte) => write!(out, " {byte:02x}")?,
                None => out.write_all(b"   ")?,
            }
            if at == 7 {
                out.write_all(b" -")?;
            }
        }
        out.write_all(b"   ")?;
        for at in 0..16 {
            let shown = match line.get(at) {
                Some(byte @ 0x20..=0x7e) => *byte,
                Some(_) => b'.',
                None => b' ',
            };
            out.write_all(&[shown])?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

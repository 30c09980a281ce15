//! `-R`: each line a command of its own. Lines that change the table and follow
//! one another go to the daemon together, as long as more are at hand, which
//! comes out the same: each is still applied, or refused, for itself.

use std::io::{BufRead, BufReader, Cursor, Read};

use evenkeel_config::ipvsadm::{Command, parse_line, words_of_line};
use evenkeel_core::model::Edit;

use super::{Failure, Session};

/// Edits in one request at most.
const BATCH: usize = 1 << 16;

/// What a line does to the restore.
enum Line {
    /// To be sent with its neighbours.
    Edit(Edit),
    /// Done, with this exit code.
    Done(u8),
    /// The last that is looked at, with this exit code.
    Last(u8),
}

impl Session<'_, '_> {
    /// `ipvsadm-restore`: reads everything, then clears the table and restores
    /// what does not begin with `#`.
    pub(super) fn restore_script(&mut self) -> Result<u8, Failure> {
        let mut rules = Vec::new();
        self.console
            .input
            .read_to_end(&mut rules)
            .map_err(Failure::Input)?;
        let rules: Vec<u8> = rules
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| line[0] != b'#')
            .collect::<Vec<_>>()
            .concat();
        let capacity = rules.len().max(1);
        self.console.input = BufReader::with_capacity(capacity, Box::new(Cursor::new(rules)));
        self.restore(vec![Edit::Flush])
    }

    /// `-R`, behind edits that are still to be sent. Gives the exit code of the
    /// last line.
    pub(super) fn restore(&mut self, mut batch: Vec<Edit>) -> Result<u8, Failure> {
        let mut code = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self
                .console
                .input
                .read_until(b'\n', &mut line)
                .map_err(Failure::Input)?
                == 0
            {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let words = words_of_line(&text);
            if words.is_empty() {
                continue;
            }
            match self.line(&words, &mut batch)? {
                Line::Edit(edit) => batch.push(edit),
                Line::Done(line_code) => code = line_code,
                Line::Last(line_code) => return Ok(line_code),
            }
            // Nothing more at hand: whoever types waits for the outcome.
            if batch.len() >= BATCH || self.console.input.buffer().is_empty() {
                code = self.send(&mut batch)?.unwrap_or(code);
            }
        }
        Ok(self.send(&mut batch)?.unwrap_or(code))
    }

    /// One line. What is not an edit sees the table as the edits before it left it.
    fn line(&mut self, words: &[&str], batch: &mut Vec<Edit>) -> Result<Line, Failure> {
        let command = match parse_line(words, self.names) {
            Ok(command) => command,
            Err(usage) => {
                self.send(batch)?;
                let code = self.complain(&usage.message, usage.exit_code);
                return Ok(if usage.restore_goes_on {
                    Line::Done(code)
                } else {
                    Line::Last(code)
                });
            }
        };
        match command {
            Command::Edit(edit) => Ok(Line::Edit(edit)),
            command => {
                self.send(batch)?;
                // Help ends the program, and so does a listing that fails. What
                // Evenkeel has not got yet is left out like a refused edit.
                let ends = matches!(command, Command::Help | Command::Version);
                let lists = matches!(command, Command::List(_) | Command::Save { .. });
                let code = self.carry_out(command)?;
                Ok(if ends || (lists && code != 0) {
                    Line::Last(code)
                } else {
                    Line::Done(code)
                })
            }
        }
    }

    /// Sends what has gathered; the exit code of its last line, if there was one.
    fn send(&mut self, batch: &mut Vec<Edit>) -> Result<Option<u8>, Failure> {
        if batch.is_empty() {
            Ok(None)
        } else {
            self.edit(std::mem::take(batch)).map(Some)
        }
    }
}

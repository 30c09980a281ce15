//! `~SEQ` and `~LST`: lines that are repeated with another value each time.

use super::text::{Cell, Text, is_blank, starts_with, string};

/// A line that is repeated.
#[derive(Debug)]
pub(super) struct Repetition {
    names: Vec<String>,
    values: Values,
    /// What is repeated.
    pub(super) text: Text,
}

#[derive(Debug)]
enum Values {
    Numbers {
        next: Option<i64>,
        step: i64,
        last: i64,
        hexadecimal: bool,
    },
    /// The last comes first.
    Sets(Vec<Vec<String>>),
}

impl Repetition {
    /// What a line says that begins with `~SEQ` or `~LST`; `replace` puts in what names
    /// stand for. What is wrong, otherwise.
    pub(super) fn read(
        text: &[Cell],
        replace: impl FnOnce(&[Cell]) -> Text,
    ) -> Result<Self, &'static str> {
        let is_list = starts_with(text, "~LST");
        let hexadecimal = !is_list && text.get(4).is_some_and(|cell| cell.c == 'x');
        let mut reader = Cells(&text[if hexadecimal { 5 } else { 4 }..]);
        reader.expect('(')?;
        if is_list {
            return Self::list(reader);
        }
        let name = reader.value(&[',', ')']);
        reader.expect(',')?;
        if name.is_empty() {
            return Err("it has no name");
        }
        let end = reader.0.iter().position(|cell| cell.c == ')');
        let end = end.ok_or("its ) is missing")?;
        let numbers = string(&replace(&reader.0[..end]));
        reader.0 = &reader.0[end + 1..];
        Ok(Self {
            names: vec![name],
            values: range(&numbers, hexadecimal)?,
            text: reader.rest(),
        })
    }

    fn list(mut reader: Cells<'_>) -> Result<Self, &'static str> {
        let names = reader.set()?;
        let mut sets = Vec::new();
        while reader.next_is(',') {
            let mut set = reader.set()?;
            if set.len() > names.len() {
                return Err("it has more values than names");
            }
            set.resize(names.len(), String::new());
            sets.push(set);
        }
        reader.expect(')')?;
        if sets.is_empty() {
            return Err("it has no values");
        }
        sets.reverse();
        Ok(Self {
            names,
            values: Values::Sets(sets),
            text: reader.rest(),
        })
    }

    /// What the names stand for the next time; none: it is over.
    pub(super) fn next(&mut self) -> Option<Vec<(String, String)>> {
        let values = match &mut self.values {
            Values::Numbers {
                next,
                step,
                last,
                hexadecimal,
            } => {
                let number = (*next)?;
                let after = number.checked_add(*step);
                let goes_on = |after: &i64| {
                    if *step > 0 {
                        after <= last
                    } else {
                        after >= last
                    }
                };
                *next = after.filter(goes_on);
                vec![if *hexadecimal {
                    format!("{number:x}")
                } else {
                    number.to_string()
                }]
            }
            Values::Sets(sets) => sets.pop()?,
        };
        Some(self.names.iter().cloned().zip(values).collect())
    }
}

/// `[START,] [STEP,] END`
fn range(numbers: &str, hexadecimal: bool) -> Result<Values, &'static str> {
    let numbers: Option<Vec<i64>> = numbers
        .split(',')
        .map(|word| integer(word.trim()))
        .collect();
    let numbers = numbers.ok_or("its numbers are no whole numbers")?;
    let (start, step, last) = match numbers[..] {
        [end] if end < 0 => (-1, -1, end),
        [end] => (1, if end < 1 { -1 } else { 1 }, end),
        [start, end] => (start, if start <= end { 1 } else { -1 }, end),
        [start, step, end] => (start, step, end),
        _ => return Err("it takes three numbers at most"),
    };
    if step == 0 || (start < last && step < 0) || (start > last && step > 0) {
        return Err("its step never leads to the end");
    }
    if hexadecimal && (start < 0 || last < 0) {
        return Err("hexadecimal numbers are never below 0");
    }
    Ok(Values::Numbers {
        next: Some(start),
        step,
        last,
        hexadecimal,
    })
}

/// As C writes numbers.
fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let lower = digits.to_ascii_lowercase();
    let value = match lower.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => i64::from_str_radix(&lower, 8),
        None => lower.parse(),
    };
    Some(value.ok()? * sign)
}

struct Cells<'t>(&'t [Cell]);

impl Cells<'_> {
    fn skip_blanks(&mut self) {
        let blanks = self.0.iter().take_while(|cell| is_blank(cell.c)).count();
        self.0 = &self.0[blanks..];
    }

    /// Takes a character if it comes next.
    fn next_is(&mut self, c: char) -> bool {
        self.skip_blanks();
        let is_next = self.0.first().is_some_and(|cell| cell.c == c);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    fn expect(&mut self, c: char) -> Result<(), &'static str> {
        if self.next_is(c) {
            return Ok(());
        }
        Err(match c {
            '(' => "( is missing",
            ')' => ") is missing",
            '}' => "} is missing",
            _ => ", is missing",
        })
    }

    /// What stands before a blank or one of these.
    fn value(&mut self, ends: &[char]) -> String {
        self.skip_blanks();
        let is_end = |cell: &Cell| is_blank(cell.c) || ends.contains(&cell.c);
        let length = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (value, rest) = self.0.split_at(length);
        self.0 = rest;
        string(value)
    }

    /// A value, or several in braces.
    fn set(&mut self) -> Result<Vec<String>, &'static str> {
        if !self.next_is('{') {
            return Ok(vec![self.value(&[',', '}', ')'])]);
        }
        let mut set = vec![self.value(&[',', '}', ')'])];
        while self.next_is(',') {
            set.push(self.value(&[',', '}', ')']));
        }
        self.expect('}')?;
        Ok(set)
    }

    fn rest(mut self) -> Text {
        self.skip_blanks();
        self.0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::cells;
    use super::*;

    fn all(line: &str) -> Result<Vec<String>, &'static str> {
        let mut repetition = Repetition::read(&cells(line), <[Cell]>::to_vec)?;
        let mut lines = Vec::new();
        while let Some(values) = repetition.next() {
            let values: Vec<String> = values
                .into_iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            lines.push(values.join(" "));
        }
        lines.push(string(&repetition.text));
        Ok(lines)
    }

    #[test]
    fn lines_are_repeated() {
        let cases: &[(&str, &[&str])] = &[
            ("~SEQ(n,3) a $n", &["n=1", "n=2", "n=3", "a $n"]),
            ("~SEQ(n, 5, 7)  a", &["n=5", "n=6", "n=7", "a"]),
            ("~SEQ(n, 2, -1, 1) a", &["n=2", "n=1", "a"]),
            ("~SEQ (n,2,3,9) a", &["n=2", "n=5", "n=8", "a"]),
            ("~SEQ(n,-2) a", &["n=-1", "n=-2", "a"]),
            ("~SEQx(n,0x9,10) a", &["n=9", "n=a", "a"]),
            ("~LST(x, a, b) $x", &["x=a", "x=b", "$x"]),
            (
                "~LST({x,y},{a,b},{ c },{,d}) $x",
                &["x=a y=b", "x=c y=", "x= y=d", "$x"],
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(all(line).unwrap(), *expected, "{line}");
        }
    }

    #[test]
    fn faults_are_told() {
        let lines = [
            "~SEQ",
            "~SEQ(",
            "~SEQ(n",
            "~SEQ(n)",
            "~SEQ(n,",
            "~SEQ(n,a)",
            "~SEQ(n,1,0,3)",
            "~SEQ(,1)",
            "~SEQ(n,1,2,3,4)",
            "~SEQx(n,-4)",
            "~LST(x)",
            "~LST({x,a)",
            "~LST(x,{a,b})",
            "~LST",
        ];
        for line in lines {
            assert!(all(line).is_err(), "{line}");
        }
        assert!(all("~SEQ(n,9223372036854775807,9223372036854775807) a").is_ok());
    }
}

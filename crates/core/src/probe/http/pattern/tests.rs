use super::*;
use proptest::prelude::*;

fn page(pattern: &str, options: &[&str]) -> PageRegex {
    PageRegex {
        pattern: pattern.into(),
        options: options.iter().map(|name| String::from(*name)).collect(),
        absent: false,
        min_offset: 0,
        max_offset: 0,
    }
}

fn is_match(pattern: &str, options: &[&str], body: &[u8]) -> bool {
    let pattern = compile(&page(pattern, options)).unwrap_or_else(|why| panic!("{pattern}: {why}"));
    pattern.regex.is_match(body)
}

#[test]
fn perls_syntax_means_what_it_does_there() {
    let cases: &[(&str, &str, &[u8], bool)] = &[
        (r#"{"status": *"ok"}"#, "", br#"{"status":  "ok"}"#, true),
        ("a{2}b{", "", b"aab{", true),
        ("a{2,}{x}", "", b"aaa{x}", true),
        ("a{,2}", "", b"a{,2}", true),
        ("ok$", "", b"ok\n", true),
        ("ok$", "", b"ok\n\n", false),
        ("ok$", "multiline", b"ok\nx", true),
        ("ok$", "dollar_endonly", b"ok\n", false),
        (r"ok\Z", "", b"ok\n", true),
        (r"ok\z", "", b"ok\n", false),
        ("[a[]", "", b"[", true),
        ("[a&&b]", "", b"&", true),
        ("[]a]", "", b"]", true),
        ("[^]a]", "", b"]", false),
        ("[a-]", "", b"-", true),
        (r"[\w-z]", "", b"-", true),
        ("[+--]", "", b",", true),
        ("[[:digit:][:^alnum:]]", "", b"a", false),
        ("[a~~b ]", "extended", b" ", true),
        (r"[\x41\102\t]", "", b"B", true),
        (r"[\Q]-\E]", "", b"]", true),
        ("a b # c(\n c", "extended", b"abc", true),
        ("(?x) a (?-x: b)", "", b"a b", true),
        ("(?x)a b", "", b"a b", false),
        (r"\Qa.b\E.", "", b"a.bx", true),
        (r"\Qa.b\E", "", b"axb", false),
        (r"\x41\x{42}\e\cA\/\<", "", b"AB\x1b\x01/<", true),
        (r"\0121[\1012]\0", "", b"\n1A\0", true),
        (r"\d\h\R\N\S", "", b"1 \r\nxy", true),
        (
            "(a)(?<n>b)(?P<n>c)(?'n'd)(?|e|f)(?:g)(?#h(i)",
            "",
            b"abcdeg",
            true,
        ),
        ("(?i)A(?-i)B", "", b"aB", true),
        ("(?i)A(?-i)B", "", b"ab", false),
        ("(?i:A)B", "", b"aB", true),
        ("a.b", "", b"a\xffb", true),
        ("a.b", "", b"a\nb", false),
        ("a.b", "dotall", b"a\nb", true),
        ("é", "", "é".as_bytes(), true),
        ("[é]", "", b"\xc3", true),
        ("[é]", "utf", b"\xc3", false),
        ("É", "utf,caseless", "é".as_bytes(), true),
        ("É", "caseless", "é".as_bytes(), false),
        (r"^\w$", "utf", "é".as_bytes(), false),
        (r"^\w$", "utf,ucp", "é".as_bytes(), true),
        (r"^[[:alpha:]]$", "utf", "é".as_bytes(), false),
        (r"^[[:alpha:]]$", "utf,ucp", "é".as_bytes(), true),
        (r"^[[:^alnum:]_]$", "utf,ucp", "é".as_bytes(), false),
        (r"\p{Lu}", "utf", "É".as_bytes(), true),
        (r"\bup\b", "", b"is up.", true),
        (r"a\C\Cb", "utf", "aéb".as_bytes(), true),
        ("[]", "allow_empty_class", b"a", false),
        ("(a)(a)", "no_auto_capture,nonsense", b"aa", true),
    ];
    for (pattern, options, body, expected) in cases {
        let options: Vec<&str> = options.split(',').collect();
        let seen = is_match(pattern, &options, body);
        assert_eq!(
            seen,
            *expected,
            "{pattern} {options:?} {}",
            body.escape_ascii()
        );
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let cases = [
        ("a(?=b)", "at 4: look-ahead is not supported"),
        ("(?<!b)", "at 4: look-behind is not supported"),
        (r"(a)\1", "at 5: back-references are not supported"),
        ("a++", "at 2: possessive quantifiers are not supported"),
        ("(?>a)", "at 3: atomic groups are not supported"),
        ("(?R)", "at 3: recursion is not supported"),
        ("(*UTF)a", "at 1: verbs in (*…) are not supported"),
        (r"\X", "at 2: \\X is not supported"),
        ("a(?#b", "at 5: a comment without its end"),
        ("[a", "at 2: a class without its end"),
        ("a\\", "at 2: a backslash at the end"),
        ("(a", "cannot read the expression: unclosed group"),
        (
            "*",
            "cannot read the expression: repetition operator missing expression",
        ),
        ("(?q)", "at 3: this kind of group is not known"),
        (r"\p{L}", "at 2: \\p needs the option utf"),
    ];
    for (pattern, why) in cases {
        assert_eq!(compile(&page(pattern, &[])).unwrap_err(), why, "{pattern}");
    }
    let large = compile(&page("(?:a{1000}){1000}", &[])).unwrap_err();
    assert!(large.contains("size limit"), "{large}");
}

proptest! {
    #[test]
    fn nothing_panics(
        pattern in r"([a\\\[\](){}?*+^$|.:<>=!#\-,P&QExcodnhRZbé0-9' ]|\(\?|\\[a-zA-Z]|\[:){0,20}",
        extended in any::<bool>(),
        utf in any::<bool>(),
    ) {
        let mut options = vec!["allow_empty_class"];
        options.extend(extended.then_some("extended"));
        options.extend(utf.then_some("utf"));
        let _ = compile(&page(&pattern, &options));
    }
}

use proptest::prelude::*;

use super::*;

/// `(pattern, message, whether it matches)`.
fn check(cases: &[(&str, &str, bool)]) {
    for (pattern, message, expected) in cases {
        let parsed = Pattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        assert_eq!(parsed.matches(message), *expected, "{pattern} on {message}");
    }
}

// Most cases of this file are the examples of the CloudWatch Logs User Guide, "Filter pattern syntax".

#[test]
fn terms() {
    check(&[
        ("", "anything", true),
        ("", "", true),
        ("\"\"", "anything", true),
        ("ERROR", "[ERROR 400] BAD REQUEST", true),
        ("ERROR", "Exiting with ERRORCODE: -1", true),
        ("ERROR", "error", false),
        ("ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", true),
        ("ERROR ARGUMENTS", "ARGUMENTS missing: ERROR", true),
        ("ERROR ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", false),
        ("\"INTERNAL SERVER ERROR\"", "[ERROR 500] INTERNAL SERVER ERROR", true),
        ("\"INTERNAL SERVER ERROR\"", "INTERNAL ERROR SERVER", false),
        ("ERROR -ARGUMENTS", "[ERROR 400] BAD REQUEST", true),
        ("ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", false),
        ("\"ERROR\" - \"Exiting\"", "Exiting with ERRORCODE: -1", false),
        ("\"ERROR\" -\"Exiting\"", "[ERROR] A fatal exception", true),
        ("-ERROR", "all is well", true),
        ("-ERROR", "ERROR", false),
        ("?ERROR ?WARN", "ERROR WARN message", true),
        ("?ERROR ?WARN", "ERROR message", true),
        ("?ERROR ?WARN", "WARN message", true),
        ("?ERROR ?WARN", "INFO message", false),
        ("?\"two words\" ?x", "here two words stand", true),
        // Beside other terms the optional ones do not count.
        ("REQUEST ?ERROR ?WARN", "REQUEST fine", true),
        ("REQUEST ?ERROR ?WARN", "ERROR only", false),
        ("\"a \\\"quoted\\\" word\"", "a \"quoted\" word", true),
        ("\"back\\\\slash\"", "back\\slash", true),
        ("%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", true),
        ("%^\\[ERROR [45]\\d\\d\\]%", "[ERROR 401] x", true),
        ("%^\\[ERROR [45]\\d\\d\\]%", "x [ERROR 401]", false),
        ("%colou?r%", "color and colour", true),
        ("%10\\.10\\.0\\.1%", "10x10.0.1", false),
        ("%gray|grey%", "a grey day", true),
        ("%a{3,5}%", "xaaay", true),
        ("Ünïcödé_1", "mit Ünïcödé_1!", true),
    ]);
}

#[test]
fn terms_that_are_refused() {
    refuse(&[
        "a-b",
        "ERROR:",
        "404.1",
        "\"open",
        "-",
        "?",
        "x\"y\"",
        "\"y\"x",
        "%open",
        "%%",
        "%a(b)%",
        "%something!%",
        "%é%",
        "%[%",
        "%a% %b% %c%",
        "(a)",
        "a,b",
        "$.x = 1",
    ]);
    assert_eq!(Pattern::parse(&"x".repeat(1025)).err(), Some(Invalid));
    assert!(Pattern::parse(&"é".repeat(1024)).is_ok());
}

fn refuse(patterns: &[&str]) {
    for pattern in patterns {
        assert_eq!(Pattern::parse(pattern).err(), Some(Invalid), "{pattern}");
    }
}

const TRAIL: &str = r#"{
  "eventType": "UpdateTrail",
  "sourceIPAddress": "111.111.111.111",
  "arrayKey": ["value", "another value"],
  "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
  "SomeObject": null,
  "ThisFlag": true,
  "ThatFlag": false,
  "text-with_signs": "a \"b\" c",
  "odd key": 1,
  "statusCode": "404",
  "big": 1e3
}"#;

const USERS: &str = r#"{
  "user": {"id": 1, "email": "John.Stiles@example.com"},
  "users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
  "actions": ["GET", "PUT", "DELETE"],
  "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]],
  "latency": 55.5,
  "errorCode": 400
}"#;

#[test]
fn json_conditions() {
    check(&[
        ("{ $.eventType = \"UpdateTrail\" }", TRAIL, true),
        ("{ $.eventType = UpdateTrail }", TRAIL, true),
        ("{$.eventType=UpdateTrail}", TRAIL, true),
        ("{ $.eventType = \"updatetrail\" }", TRAIL, false),
        ("{ $.eventType != \"UpdateTrail\" }", TRAIL, false),
        ("{ $.eventType = Update* }", TRAIL, true),
        ("{ $.eventType = \"*Trail\" }", TRAIL, true),
        ("{ $.eventType = \"*dateT*\" }", TRAIL, true),
        ("{ $.eventType = \"Up*ail\" }", TRAIL, false),
        ("{ $.eventType = * }", TRAIL, true),
        ("{ $.nothing = * }", TRAIL, false),
        ("{ $.eventType = %Trail$% }", TRAIL, true),
        ("{ $.eventType != %Trail$% }", TRAIL, false),
        ("{ $.eventType = %^Trail% }", TRAIL, false),
        ("{ $.sourceIPAddress != 123.123.* }", TRAIL, true),
        ("{ $.sourceIPAddress != 111.111.* }", TRAIL, false),
        ("{ $.arrayKey[0] = \"value\" }", TRAIL, true),
        ("{ $.arrayKey[1] = \"value\" }", TRAIL, false),
        ("{ $.arrayKey[9] = \"value\" }", TRAIL, false),
        ("{ $.arrayKey[*] = \"another value\" }", TRAIL, true),
        ("{ $.eventType[0] = \"U\" }", TRAIL, false),
        ("{ $.objectList[1].id = 2 }", TRAIL, true),
        ("{ $.objectList[0].id = 2 }", TRAIL, false),
        ("{ $.objectList[*].id = 2 }", TRAIL, true),
        ("{ $.SomeObject IS NULL }", TRAIL, true),
        ("{ $.ThisFlag IS NULL }", TRAIL, false),
        ("{ $.SomeOtherObject IS NULL }", TRAIL, false),
        ("{ $.SomeOtherObject NOT EXISTS }", TRAIL, true),
        ("{ $.SomeObject NOT EXISTS }", TRAIL, false),
        ("{ $.ThisFlag IS TRUE }", TRAIL, true),
        ("{ $.ThisFlag IS FALSE }", TRAIL, false),
        ("{ $.ThatFlag is false }", TRAIL, true),
        ("{ $.ThatFlag = false }", TRAIL, true),
        ("{ $.text-with_signs = \"a \\\"b\\\" c\" }", TRAIL, true),
        ("{ $['odd key'] = 1 }", TRAIL, true),
        ("{ $.[\"odd key\"] = 1 }", TRAIL, true),
        ("{ $.statusCode = 404 }", TRAIL, true),
        ("{ $.statusCode = 4* }", TRAIL, true),
        ("{ $.statusCode > 400 }", TRAIL, false),
        ("{ $.big >= 1000 }", TRAIL, true),
        ("{ $.missing != 1 }", TRAIL, false),
        // A selector that ends at an array or an object fits no comparison.
        ("{ $.arrayKey = 1 }", TRAIL, false),
        ("{ $.arrayKey != 1 }", TRAIL, false),
        ("{ $.eventType = \"UpdateTrail\" }", "UpdateTrail", false),
        ("{ $.a = 1 }", "{\"a\": 1", false),
        ("{ $.a NOT EXISTS }", "no json", false),
    ]);
}

#[test]
fn json_numbers_and_logic() {
    check(&[
        ("{ $.latency >= 50 }", USERS, true),
        ("{ $.latency > 55.5 }", USERS, false),
        ("{ $.latency <= 55.5 }", USERS, true),
        ("{ $.latency < 10e3 }", USERS, true),
        ("{ $.latency < 10e-3 }", USERS, false),
        ("{ $.latency > +1 }", USERS, true),
        ("{ $.latency > -1 }", USERS, true),
        ("{ $.errorCode = 400 }", USERS, true),
        ("{ $.errorCode = 400.0 }", USERS, true),
        ("{ $.errorCode = 4* }", USERS, true),
        ("{ $.errorCode != 500 }", USERS, true),
        ("{ $.coordinates[0][1] = 1 }", USERS, true),
        ("{ ($.user.id = 1) && ($.users[0].email = \"John.Doe@example.com\") }", USERS, true),
        ("{ ($.user.id = 2 && $.users[0].email = \"nonmatch\") || $.actions[2] = \"GET\" }", USERS, false),
        (
            "{ $.user.email = \"John.Stiles@example.com\" || $.coordinates[0][1] = nonmatch && $.actions[2] = nomatch }",
            USERS,
            true,
        ),
        (
            "{ ($.user.email = \"John.Stiles@example.com\" || $.coordinates[0][1] = nonmatch) && $.actions[2] = nomatch }",
            USERS,
            false,
        ),
        ("{ ((($.user.id = 1))) }", USERS, true),
        ("{$.foo = bar || $.foo = baz }", "{\"foo\": \"baz\"}", true),
        ("{$.foo = bar}", "{\"foo\": \"baz\"}", false),
    ]);
    refuse(&[
        "{",
        "{}",
        "{ $ = 1 }",
        "{ $.a }",
        "{ $.a = }",
        "{ $.a == 1 }",
        "{ a = 1 }",
        "{ $.a = 1",
        "{ $.a = 1 } x",
        "{ $.a > \"x\" }",
        "{ $.a < abc }",
        "{ $.a = 1 && }",
        "{ && $.a = 1 }",
        "{ ($.a = 1 }",
        "{ $.a[ = 1 }",
        "{ $.a[x] = 1 }",
        "{ $. = 1 }",
        "{ $.a IS 1 }",
        "{ $.a NOT NULL }",
        "{ $.a = a@b }",
        "{ $.a = 'x' }",
        "{ $.a = %(a)% }",
        "{ $.a = %a% || $.a = %b% || $.a = %c% }",
        "{ $.a[99999999999999999999999] = 1 }",
    ]);
    let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(200), ")".repeat(200));
    assert_eq!(Pattern::parse(&deep).err(), Some(Invalid));
}

#[test]
fn columns() {
    let apache = |status: &str, bytes: &str| {
        format!("127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] \"GET /index.html HTTP/1.0\" {status} {bytes}")
    };
    let (ok, broken) = (apache("200", "1534"), apache("404", "1534"));
    let (ok, broken) = (ok.as_str(), broken.as_str());
    check(&[
        ("[ip, user, username, timestamp, request, status_code, bytes]", ok, true),
        ("[ip, user, username, timestamp, request, status_code]", ok, false),
        ("[ip, user, username, timestamp, request, status_code, bytes, more]", ok, false),
        ("[ip, user, username, timestamp, request, status_code, bytes > 1000]", ok, true),
        ("[ip, user, username, timestamp, request, status_code, bytes > 2000]", ok, false),
        ("[ip, user, username, timestamp, request, status_code = 200, bytes]", ok, true),
        ("[ip, user, username, timestamp, request, status_code = 4*, bytes]", ok, false),
        ("[ip, user, username, timestamp, request, status_code = 4*, bytes]", broken, true),
        ("[ip, user, username, timestamp, request = *html*, status_code = 4*, bytes]", broken, true),
        ("[ip, user, username, timestamp, request = \"GET /index.html HTTP/1.0\", status_code, bytes]", ok, true),
        ("[ip, user, username, timestamp = 10/Oct/2000*, request, status_code, bytes]", ok, true),
        ("[..., status_code, bytes]", ok, true),
        ("[..., status_code = 404, bytes]", broken, true),
        ("[..., request=*.html*, status_code=4*,]", broken, true),
        ("[ip, user, ..., status_code = 200, bytes]", ok, true),
        ("[ip, user = frank, ...]", ok, false),
        ("[ip = 127.0.0.1, ...]", ok, true),
        ("[ip=%127\\.0\\.0\\.[123]%, ...]", ok, true),
        ("[...]", ok, true),
        ("[…]", "", true),
        ("[a, ..., b]", "one", false),
        ("[a, ..., b]", "one two", true),
    ]);
    check(&[
        ("[ip, user, id, time, request, status_code = 4* && status_code != 403, bytes]", broken, true),
        ("[ip, user, id, time, request, status_code = 403 || status_code = 404, bytes]", broken, true),
        (
            "[ip, user, id, time, request, (status_code = 403 || status_code = 404) && status_code > 500, b]",
            broken,
            false,
        ),
        ("[w1=ERROR, w2]", "ERROR message", true),
        ("[w1=ERROR, w2]", "ERROR WARN message", false),
        ("[w1=ERROR || w1=WARN, w2]", "WARN message", true),
        ("[w1!=ERROR&&w1!=WARN, w2]", "INFO message", true),
        ("[w1, w2 = 1e3]", "x 1000", true),
        ("[w1, w2 >= -5]", "x -5", true),
        ("[w1, w2 > 5]", "x many", false),
        ("[w1]", "[not closed", false),
        ("[w1, w2]", "[not closed", true),
        ("[w1 = \"a b\"]", "[a b]", true),
    ]);
    refuse(&[
        "[",
        "[a",
        "[a,",
        "[a b]",
        "[..., ...]",
        "[a > x]",
        "[a = ]",
        "[= 1]",
        "[a = 1 && b = 2]",
        "[a] x",
        "[a = \"x]",
        "[..., status_code = 4*, ...x]",
        "[a=%x%, b=%x%, c=%x%]",
    ]);
}

/// A boolean expression over three properties, its text, and what it should answer.
#[derive(Clone, Debug)]
enum Tree {
    Is(usize, u8),
    Not(usize, u8),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            Tree::Is(i, v) => format!("$.p{i} = {v}"),
            Tree::Not(i, v) => format!("$.p{i} != {v}"),
            // `&&` binds tighter: only an `||` below it needs parentheses.
            Tree::And(a, b) => format!("{} && {}", a.factor(), b.factor()),
            Tree::Or(a, b) => format!("{} || {}", a.text(), b.text()),
        }
    }

    fn factor(&self) -> String {
        match self {
            Tree::Or(..) => format!("({})", self.text()),
            _ => self.text(),
        }
    }

    fn holds(&self, values: &[u8; 3]) -> bool {
        match self {
            Tree::Is(i, v) => values[*i] == *v,
            Tree::Not(i, v) => values[*i] != *v,
            Tree::And(a, b) => a.holds(values) && b.holds(values),
            Tree::Or(a, b) => a.holds(values) || b.holds(values),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (0..3usize, 0..3u8).prop_map(|(i, v)| Tree::Is(i, v)),
        (0..3usize, 0..3u8).prop_map(|(i, v)| Tree::Not(i, v)),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Tree::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Tree::Or(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #[test]
    fn no_pattern_and_no_message_panics(pattern in "\\PC{0,40}", message in "\\PC{0,60}") {
        if let Ok(pattern) = Pattern::parse(&pattern) {
            pattern.matches(&message);
        }
    }

    #[test]
    fn nothing_that_looks_like_a_pattern_panics(
        pattern in "[\\[{\\-?%\"]?[\\[\\]{}()$.a*1,=!<>&|%\" \\\\]{0,30}[\\]}]?",
        message in "[\\[\\]{}\":a1, ]{0,30}",
    ) {
        if let Ok(pattern) = Pattern::parse(&pattern) {
            pattern.matches(&message);
        }
    }

    #[test]
    fn terms_are_substrings(
        required in prop::collection::vec("[ab]{1,3}", 0..3),
        excluded in prop::collection::vec("[ab]{1,3}", 0..3),
        message in "[abc ]{0,12}",
    ) {
        let text: Vec<_> = required.iter().cloned().chain(excluded.iter().map(|t| format!("-\"{t}\""))).collect();
        let expected = required.iter().all(|t| message.contains(t.as_str()))
            && !excluded.iter().any(|t| message.contains(t.as_str()));
        let pattern = Pattern::parse(&text.join(" ")).expect("parses");
        prop_assert_eq!(pattern.matches(&message), expected);
    }

    #[test]
    fn logic_is_evaluated_as_written(tree in tree(), values in [0..3u8, 0..3u8, 0..3u8]) {
        let text = format!("{{ {} }}", tree.text());
        prop_assume!(text.chars().count() <= PATTERN_CHARS_MAX);
        let pattern = Pattern::parse(&text).expect("parses");
        let event = format!("{{\"p0\": {}, \"p1\": {}, \"p2\": {}}}", values[0], values[1], values[2]);
        prop_assert_eq!(pattern.matches(&event), tree.holds(&values), "{}", text);
    }
}

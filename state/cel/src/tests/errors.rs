//! What is said of expressions that do not compile, with their places.

use super::all_fail;
use crate::{Environment, Program, Type};

fn shown(text: &str) -> String {
    let environment = Environment::default().variable("self", Type::String);
    Program::compile(text, &environment)
        .expect_err("it does not compile")
        .to_string()
}

#[test]
fn faults_are_shown_where_they_are() {
    assert_eq!(
        shown("self == 1"),
        "ERROR: <input>:1:6: found no matching overload for '_==_' applied to '(string, int)'\n | self == 1\n | .....^"
    );
    assert_eq!(
        shown("true &&\n\tsel"),
        "ERROR: <input>:2:2: undeclared reference to 'sel' (in container '')\n |  sel\n | .^"
    );
    assert_eq!(
        shown("'é' + x"),
        "ERROR: <input>:1:7: undeclared reference to 'x' (in container '')\n | 'é' + x\n | .\u{ff0e}....^"
    );
    assert_eq!(
        shown("a + b"),
        "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a + b\n | ^\n\
         ERROR: <input>:1:5: undeclared reference to 'b' (in container '')\n | a + b\n | ....^"
    );
    assert_eq!(
        shown("self.size() > 0)"),
        "ERROR: <input>:1:16: Syntax error: extraneous input ')' expecting <EOF>\n | self.size() > 0)\n | ...............^"
    );
}

#[test]
fn types_are_checked_before_anything_runs() {
    all_fail(
        "
        1 + 'a' => does not compile: found no matching overload for '_+_' applied to '(int, string)'
        1 + 1u => does not compile: found no matching overload for '_+_' applied to '(int, uint)'
        'a'.contains(1) => does not compile: found no matching overload for 'contains' applied to 'string.(int)'
        nope(1) => does not compile: undeclared reference to 'nope' (in container '')
        1.nope() => does not compile: undeclared reference to 'nope' (in container '')
        cel.bind(x, 1, x) => does not compile: undeclared reference to 'cel' (in container ''); undeclared reference to 'bind' (in container ''); undeclared reference to 'x' (in container ''); undeclared reference to 'x' (in container '')
        'a'.b => does not compile: type 'string' does not support field selection
        1 && true => does not compile: expected type 'bool' but found 'int'
        true ? 1 : 'a' => does not compile: found no matching overload for '_?_:_' applied to '(bool, int, string)'
        [1, 'a'] => does not compile: expected type 'int' but found 'string'
        {'a': 1, 'b': 'c'} => does not compile: expected type 'int' but found 'string'
        {'a': 1}[1] => does not compile: found no matching overload for '_[_]' applied to '(map(string, int), int)'
        1 in 'a' => does not compile: found no matching overload for '@in' applied to '(int, string)'
        Foo{a: 1} => does not compile: undeclared reference to 'Foo' (in container '')
        int{a: 1} => does not compile: 'int' is not a message type
        ",
    );
}

#[test]
fn syntax_is_checked() {
    all_fail(
        "
        1 + => does not compile: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
        for => does not compile: reserved identifier: for
        'a => does not compile: Syntax error: token recognition error at: ''a'; Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
        1 # 2 => does not compile: Syntax error: token recognition error at: '#'; Syntax error: extraneous input '2' expecting <EOF>
        9223372036854775808 => does not compile: invalid int literal
        18446744073709551616u => does not compile: invalid uint literal
        1e999 => does not compile: invalid double literal
        [1 => does not compile: Syntax error: mismatched input '<EOF>' expecting ']'
        '\\q' => does not compile: unable to unescape string: unknown escape sequence \\q
        '\\ud800' => does not compile: invalid unicode code point
        ",
    );
}

#[test]
fn what_nests_too_deep_is_refused_and_not_followed() {
    let limit = "does not compile: expression recursion limit exceeded: 250";
    for text in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("1{}", " + 1".repeat(10_000)),
        format!("a{}", ".a".repeat(10_000)),
        format!("1{}", " == 1".repeat(10_000)),
        format!("true{}", " ? true : true".repeat(5_000)),
    ] {
        assert_eq!(super::run(&text), Err(limit.to_owned()), "{}", &text[..20]);
    }
    let text = "a".repeat(100_001);
    let size = "does not compile: expression code point size exceeds limit: size: 100001, limit 100000";
    assert_eq!(super::run(&text), Err(size.to_owned()));
    // Long is not deep.
    for text in [
        format!("true{}", " && true".repeat(10_000)),
        format!("false{} || true", " || false".repeat(10_000)),
        format!("{}true", "!".repeat(10_000)),
        format!("[1{}].size() == 20001", ", 1".repeat(20_000)),
    ] {
        assert_eq!(super::run(&text), Ok(crate::Value::Bool(true)), "{}", &text[..20]);
    }
}

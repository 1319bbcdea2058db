//! The language: literals, operators, macros, conversions, time.

use super::{all_fail, all_true};

#[test]
fn literals_are_read_as_the_specification_has_them() {
    all_true(
        r#"
        0x1F == 31
        0xffu == 255u
        -9223372036854775808 < 0
        18446744073709551615u > 0u
        1e3 == 1000.0
        .5 == 0.5
        1.5e-3 == 0.0015
        'a' == "a"
        '\u00e9' == 'é'
        '\U0001F600'.size() == 1
        '\x41\101' == 'AA'
        r'\n'.size() == 2
        '''a'b''' == "a'b"
        b'\xff'.size() == 1
        b'é'.size() == 2
        'é'.size() == 1
        b'abc' == bytes('abc')
        '\a\b\f\n\r\t\v'.size() == 7
        '\?\"\'\`' == '?"\'`'
        [1, 2,].size() == 2
        {'a': 1,}.size() == 1
        null == null
        // comments end with the line
        true // as here
        "#,
    );
}

#[test]
fn arithmetic_is_of_64_bits_and_never_wraps() {
    all_true(
        "
        1 + 2 * 3 == 7
        (1 + 2) * 3 == 9
        7 / 2 == 3
        -7 / 2 == -3
        7 % 3 == 1
        -7 % 3 == -1
        7u / 2u == 3u
        7.0 / 2.0 == 3.5
        1.0 / 0.0 == double('inf')
        -(1) == -1
        --1 == 1
        !!true
        'a' + 'b' == 'ab'
        b'a' + b'b' == b'ab'
        [1] + [2] == [1, 2]
        1 - -1 == 2
        ",
    );
    all_fail(
        "
        9223372036854775807 + 1 => integer overflow
        -9223372036854775808 - 1 => integer overflow
        9223372036854775807 * 2 => integer overflow
        -9223372036854775808 / -1 => integer overflow
        -(-9223372036854775808) => integer overflow
        18446744073709551615u + 1u => unsigned integer overflow
        1u - 2u => unsigned integer overflow
        1 / 0 => division by zero
        1u / 0u => division by zero
        1 % 0 => modulus by zero
        1u % 0u => modulus by zero
        ",
    );
}

#[test]
fn numbers_of_all_types_compare_as_numbers() {
    all_true(
        "
        1 < 2 && 1 <= 1 && 2 > 1 && 2 >= 2
        1 < 1.5 && 2u > 1.5 && 1 < 2u
        dyn(1) == dyn(1.0) && dyn(1u) == dyn(1)
        dyn(1) != dyn('1')
        'a' < 'b' && b'a' < b'b' && false < true
        duration('1s') < duration('1m')
        timestamp('2020-01-01T00:00:00Z') < timestamp('2021-01-01T00:00:00Z')
        !(double('NaN') == double('NaN'))
        double('NaN') != double('NaN')
        !(double('NaN') < 1.0)
        1 in [1, 2] && !(3 in [1, 2])
        'a' in {'a': 1} && !('b' in {'a': 1})
        dyn(1.0) in [1, 2]
        [1, 2] == [1, 2] && [1, 2] != [2, 1]
        {'a': 1, 'b': 2} == {'b': 2, 'a': 1}
        {1: 'a'}[1] == 'a' && {true: 'b'}[true] == 'b' && {2u: 'c'}[2u] == 'c'
        dyn({1: 'a'})[1u] == 'a'
        ",
    );
}

#[test]
fn a_side_that_decides_absorbs_the_error_of_the_other() {
    all_true(
        "
        true || 1 / 0 == 0
        1 / 0 == 0 || true
        !(false && 1 / 0 == 0)
        !(1 / 0 == 0 && false)
        true ? true : 1 / 0 == 0
        [1, 0].exists(x, 1 / x == 1)
        [0, 1].exists(x, 1 / x == 1)
        ![0, 2].all(x, 1 / x == 1)
        [1, 2].all(x, x > 0) && ![1, 2].all(x, x > 1)
        ",
    );
    all_fail(
        "
        1 / 0 == 0 || false => division by zero
        false || 1 / 0 == 0 => division by zero
        1 / 0 == 0 && true => division by zero
        [0, 2].exists(x, 1 / x == 1) => division by zero
        [1, 0].exists_one(x, 1 / x == 1) => division by zero
        [0].map(x, 1 / x) => division by zero
        dyn(1) && true => no such overload
        dyn('a') ? 1 : 2 => no such overload
        ",
    );
}

#[test]
fn macros_are_loops() {
    all_true(
        "
        [1, 2, 3].map(x, x * 2) == [2, 4, 6]
        [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]
        [1, 2, 3].filter(x, x > 1) == [2, 3]
        [1, 2, 3].exists_one(x, x == 2) && ![1, 2, 2].exists_one(x, x == 2)
        [1, 2, 3].existsOne(x, x == 2)
        {'a': 1, 'b': 2}.all(k, k < 'c') && {'a': 1}.exists(k, k == 'a')
        {'a': 1, 'b': 2}.map(k, k).size() == 2
        [[1, 2], [3]].map(l, l.map(x, x + 1)) == [[2, 3], [4]]
        [1, 2].all(x, [3, 4].all(y, x < y))
        [1].map(x, [2].map(x, x)) == [[2]]
        has({'a': 1}.a) && !has({'a': 1}.b)
        [].all(x, false) && ![].exists(x, true)
        [1, 2].all(i, v, v == i + 1)
        ['a', 'b'].exists(i, v, i == 1 && v == 'b')
        {'a': 1, 'b': 2}.existsOne(k, v, v == 2)
        [3, 4].transformList(i, v, i * v) == [0, 4]
        [3, 4].transformList(i, v, i > 0, v) == [4]
        {'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}
        {'a': 1, 'b': 2}.transformMap(k, v, v > 1, v) == {'b': 2}
        {'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}
        [1, 2, 3].map(x, x).filter(x, x % 2 == 1).size() == 2
        ",
    );
    all_fail(
        "
        {'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k}) => insert failed: key x already exists
        has(1) => does not compile: invalid argument to has() macro
        [1].all(1, true) => does not compile: argument must be a simple name
        [1].map(a.b, true) => does not compile: argument is not an identifier
        [1].all(i, i, true) => does not compile: duplicate variable name: i
        [1].all(__result__, true) => does not compile: iteration variable overwrites accumulator variable
        1.all(x, true) => does not compile: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)
        [1].all(x, x) => does not compile: expected type 'bool' but found 'int'
        [1, 2].map(x, @result) => does not compile: Syntax error: token recognition error at: '@'
        ",
    );
}

#[test]
fn conversions_are_exact_or_errors() {
    all_true(
        "
        int('42') == 42 && int(4.9) == 4 && int(-4.9) == -4 && int(5u) == 5
        uint('42') == 42u && uint(4.9) == 4u && uint(7) == 7u
        double('1.5') == 1.5 && double(2) == 2.0 && double(2u) == 2.0
        string(42) == '42' && string(4.5) == '4.5' && string(true) == 'true' && string(b'abc') == 'abc'
        string(1e21) == '1e+21' && string(0.00001) == '1e-05' && string(100.0) == '100'
        bool('true') && bool('T') && !bool('0') && !bool('FALSE')
        bytes('é') == b'\\xc3\\xa9'
        string(duration('1m30s')) == '90s' && string(duration('1500ms')) == '1.5s'
        string(timestamp('2020-01-02T03:04:05.670Z')) == '2020-01-02T03:04:05.67Z'
        int(timestamp('1970-01-01T00:01:00Z')) == 60
        timestamp(60) == timestamp('1970-01-01T00:01:00Z')
        type(1) == int && type(1u) == uint && type(1.0) == double && type('') == string && type(b'') == bytes
        type([]) == list && type({}) == map && type(null) == null_type && type(type(1)) == type
        type(duration('1s')) == google.protobuf.Duration
        type(timestamp(0)) == google.protobuf.Timestamp
        type(optional.none()) == optional_type
        size('é') == 1 && size(b'ab') == 2 && size([1]) == 1 && size({1: 1}) == 1
        ",
    );
    all_fail(
        "
        int('x') => type conversion error from 'string' to 'int'
        int(1e19) => integer overflow
        int(18446744073709551615u) => integer overflow
        uint(-1) => unsigned integer overflow
        uint('-1') => type conversion error from 'string' to 'uint'
        double('x') => type conversion error from 'string' to 'double'
        bool('yes') => type conversion error from 'string' to 'bool'
        string(b'\\xff') => invalid UTF-8 in bytes, cannot convert to string
        timestamp(253402300800) => timestamp overflow
        ",
    );
}

#[test]
fn time_is_of_the_years_1_to_9999() {
    all_true(
        "
        timestamp('2024-02-29T12:34:56.789Z').getFullYear() == 2024
        timestamp('2024-02-29T12:34:56.789Z').getMonth() == 1
        timestamp('2024-02-29T12:34:56.789Z').getDate() == 29
        timestamp('2024-02-29T12:34:56.789Z').getDayOfMonth() == 28
        timestamp('2024-02-29T12:34:56.789Z').getDayOfYear() == 59
        timestamp('2024-02-29T12:34:56.789Z').getDayOfWeek() == 4
        timestamp('2024-02-29T12:34:56.789Z').getHours() == 12
        timestamp('2024-02-29T12:34:56.789Z').getMinutes() == 34
        timestamp('2024-02-29T12:34:56.789Z').getSeconds() == 56
        timestamp('2024-02-29T12:34:56.789Z').getMilliseconds() == 789
        timestamp('2024-02-29T23:00:00Z').getDate('+02:00') == 1
        timestamp('2024-02-29T01:00:00Z').getHours('-08:00') == 17
        timestamp('2024-06-01T12:00:00+02:00') == timestamp('2024-06-01T10:00:00Z')
        string(timestamp('9999-12-31T23:59:59.999999999Z')) == '9999-12-31T23:59:59.999999999Z'
        timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')
        duration('1h') + timestamp('2024-01-01T00:00:00Z') == timestamp('2024-01-01T01:00:00Z')
        timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')
        timestamp('2024-01-02T00:00:00Z') - duration('1s') < timestamp('2024-01-02T00:00:00Z')
        duration('1h30m').getHours() == 1 && duration('1h30m').getMinutes() == 90
        duration('1.5s').getSeconds() == 1 && duration('1.5s').getMilliseconds() == 1500
        duration('1h') - duration('30m') == duration('1800s')
        duration('-1m') < duration('0') && duration('1us') == duration('1000ns')
        ",
    );
    all_fail(
        "
        timestamp('9999-12-31T23:59:59Z') + duration('1s') => timestamp overflow
        timestamp('0001-01-01T00:00:00Z') - duration('1ns') => timestamp overflow
        timestamp('9999-12-31T23:59:59Z') - timestamp('0001-01-01T00:00:00Z') => duration overflow
        duration('2562047h') + duration('1h') => duration overflow
        timestamp(0).getDate('No/Where') => unknown time zone No/Where
        duration('1 hour') => does not compile: invalid duration argument
        timestamp('yesterday') => does not compile: invalid timestamp argument
        timestamp('2023-02-30T00:00:00Z') => does not compile: invalid timestamp argument
        duration('1s').getFullYear() => does not compile: found no matching overload for 'getFullYear' applied to 'duration.()'
        ",
    );
}

#[test]
fn optional_values_are_asked_before_they_are_used() {
    all_true(
        "
        {'a': 1}.?a.value() == 1 && !{'a': 1}.?b.hasValue()
        {'a': 1}[?'a'].orValue(2) == 1 && {'a': 1}[?'b'].orValue(2) == 2
        [1, 2][?0] == optional.of(1) && [1, 2][?5] == optional.none()
        {'a': {'b': 1}}.?a.b.value() == 1 && {'a': {'b': 1}}.?x.b == optional.none()
        {'a': [1]}.?a[0].value() == 1
        [?optional.of(1), ?optional.none(), 2] == [1, 2]
        {?'a': optional.of(1), ?'b': optional.none()} == {'a': 1}
        optional.none().or(optional.of(1)).value() == 1 && optional.of(1).or(optional.of(2)).value() == 1
        optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().optMap(x, x).hasValue()
        optional.of(1).optFlatMap(x, optional.of(x + 1)).value() == 2
        optional.ofNonZeroValue(0) == optional.none() && optional.ofNonZeroValue('a').hasValue()
        [1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue()
        optional.unwrap([optional.of(1), optional.none()]) == [1] && [optional.of(1)].unwrapOpt() == [1]
        optional.of(1).orValue(1 / 0) == 1
        ",
    );
    all_fail(
        "
        optional.none().value() => optional.none() dereference
        {'a': 1}[?'b'].orValue(1 / 0) => division by zero
        optional.none().optMap(a.b, a) => does not compile: optMap() variable name must be a simple identifier
        ",
    );
}

#[test]
fn what_is_not_there_is_an_error() {
    all_fail(
        "
        {'a': 1}.b => no such key: b
        {'a': 1}['b'] => no such key: b
        {1: 1}[2] => no such key: 2
        [1][1] => index out of bounds: 1
        [1][-1] => index out of bounds: -1
        dyn(1).a => no such overload
        dyn('a') + 1 => no such overload
        {'a': 1, 'a': 2} => Failed with repeated key: a
        dyn([1])['a'] => unsupported index type 'string' in list
        ",
    );
}

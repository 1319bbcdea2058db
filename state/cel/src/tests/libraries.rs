//! The libraries that Kubernetes offers.

use super::{all_fail, all_true};

#[test]
fn strings_count_characters() {
    all_true(
        r#"
        'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')
        'tacocat'.charAt(3) == 'o' && 'abc'.charAt(3) == ''
        'tacocat'.indexOf('a') == 1 && 'tacocat'.indexOf('a', 2) == 5 && 'tacocat'.indexOf('x') == -1
        'tacocat'.lastIndexOf('a') == 5 && 'tacocat'.lastIndexOf('a', 4) == 1 && 'aaa'.lastIndexOf('') == 3
        'héllo'.indexOf('l') == 2 && 'héllo'.substring(1, 3) == 'él'
        ['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b' && [].join(',') == ''
        'TaCoÉ'.lowerAscii() == 'tacoÉ' && 'tacoé'.upperAscii() == 'TACOé'
        'a-b-c'.replace('-', '+') == 'a+b+c' && 'a-b-c'.replace('-', '+', 1) == 'a+b-c' && 'ab'.replace('', '_') == '_a_b_'
        'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('') == ['a', 'b']
        'a,b'.split(',', 0) == [] && 'a,b'.split(',', -1) == ['a', 'b']
        'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'a'.substring(1) == ''
        '  a \n'.trim() == 'a'
        strings.quote('a"b\n') == '"a\\"b\\n"'
        'abc'.matches('^a.c$') && matches('abc', 'b') && !'abc'.matches('^b')
        'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''
        '1 2 3'.findAll('[0-9]') == ['1', '2', '3'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']
        '%s %d %.2f %x %o %b %e %%'.format(['a', 1, 1.5, 255, 8, 5, 3.14]) == 'a 1 1.50 ff 10 101 3.140000×10⁰⁰ %'
        '%s'.format([[1, 'a', null]]) == '[1, "a", null]' && '%s'.format([{'a': 1}]) == '{"a":1}'
        '%X %x'.format(['abc', b'\xff']) == '616263 ff'
        '%f'.format([1234567.891]) == '1,234,567.891000'
        '%s'.format([duration('1m')]) == '60s' && '%s'.format([true]) == 'true'
        "#,
    );
    all_fail(
        "
        'a'.charAt(2) => index out of range: 2
        'a'.indexOf('a', -1) => index out of range: -1
        'a'.substring(2) => index out of range: 2
        'abc'.substring(2, 1) => invalid substring range. start: 2, end: 1
        'a'.matches('(') => does not compile: invalid matches argument
        'a'.find('(') => Illegal regex: error parsing regexp: unclosed group: `(`
        '%d'.format(['a']) => does not compile: error during formatting: decimal clause can only be used on integers, was given string
        '%s'.format([]) => does not compile: index 0 out of range
        '%s'.format([1, 2]) => does not compile: too many arguments supplied to string.format (expected 1, got 2)
        '%q'.format(['a']) => does not compile: could not parse formatting clause: unrecognized formatting clause \"q\"
        '%d'.format([dyn('a')]) => error during formatting: decimal clause can only be used on integers, was given string
        'abc'.reverse() => does not compile: found no matching overload for 'reverse' applied to 'string.()'
        ",
    );
}

#[test]
fn lists_and_sets_compare_values() {
    all_true(
        "
        [1, 2, 3].isSorted() && ![2, 1].isSorted() && ['a', 'b'].isSorted() && [].isSorted()
        [1, 2, 3].sum() == 6 && [1.5, 2.0].sum() == 3.5 && [duration('1s'), duration('2s')].sum() == duration('3s')
        [1, 3, 2].max() == 3 && [1, 3, 2].min() == 1 && ['b', 'a'].min() == 'a'
        [1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(2) == -1
        [1, 2].includes(2) && !dyn([1]).includes(2) && 'a'.includes('a')
        [1, 2, 3, 4].slice(1, 3) == [2, 3]
        [[1], [2, 3]].flatten() == [1, 2, 3]
        [3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b']
        [{'n': 2}, {'n': 1}].sortBy(e, e.n) == [{'n': 1}, {'n': 2}]
        lists.range(3) == [0, 1, 2] && lists.range(0) == []
        [1, 2, 3].reverse() == [3, 2, 1]
        [1, 2, 1, 2].distinct() == [1, 2]
        sets.contains([1, 2, 3], [1, 2]) && !sets.contains([1], [1, 2]) && sets.contains([], [])
        sets.equivalent([1, 2, 2], [2, 1]) && !sets.equivalent([1], [2])
        sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [2])
        ",
    );
    all_fail(
        "
        [].max() => max called on empty list
        [].min() => min called on empty list
        [1].slice(0, 2) => cannot slice(0, 2), list is length 1
        [1].slice(1, 0) => cannot slice(1, 0), start index must be less than or equal to end index
        [1].slice(-1, 1) => cannot slice(-1, 1), negative indexes not supported
        ['a', 'b'].sum() => does not compile: found no matching overload for 'sum' applied to 'list(string).()'
        [dyn(1), dyn('a')].sort() => list elements must have the same type
        lists.range(100000000) => operation cancelled: actual cost limit exceeded
        lists.range(10000).distinct() => operation cancelled: actual cost limit exceeded
        ",
    );
}

#[test]
fn addresses_are_of_both_families() {
    all_true(
        "
        isIP('192.168.0.1') && isIP('::1') && !isIP('192.168.0.256') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')
        ip('192.168.0.1').family() == 4 && ip('2001:db8::abcd').family() == 6
        ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:DB8::ABCD') && ip.isCanonical('2001:db8::abcd')
        ip('0.0.0.0').isUnspecified() && ip('127.0.0.1').isLoopback() && ip('224.0.0.1').isLinkLocalMulticast()
        ip('169.254.169.254').isLinkLocalUnicast() && ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()
        ip('fe80::1').isLinkLocalUnicast() && ip('ff02::1').isLinkLocalMulticast() && ip('2001:db8::1').isGlobalUnicast()
        string(ip('::1')) == '::1' && ip('127.0.0.1') == ip('127.0.0.1') && type(ip('::1')) == net.IP
        isCIDR('192.168.0.0/16') && isCIDR('::1/128') && !isCIDR('192.168.0.0/33') && !isCIDR('192.168.0.1') && !isCIDR('1.2.3.4/01')
        cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))
        cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24') && !cidr('192.168.1.0/24').containsCIDR(cidr('192.168.0.0/16'))
        cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && cidr('192.168.0.1/24').prefixLength() == 24
        cidr('192.168.0.1/24').ip() == ip('192.168.0.1') && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'
        cidr('0.0.0.0/0').containsIP('1.2.3.4') && !cidr('0.0.0.0/0').containsIP('::1')
        ",
    );
    all_fail(
        r#"
        ip('::ffff:1.2.3.4') => IPv4-mapped IPv6 address "::ffff:1.2.3.4" is not allowed
        cidr('1.2.3.4') => network address parse error during conversion from string: netip.ParsePrefix("1.2.3.4"): no '/'
        "#,
    );
}

#[test]
fn urls_are_absolute() {
    all_true(
        "
        isURL('https://example.com/a') && isURL('/absolute/path') && !isURL('relative') && !isURL('https://a:b/') && !isURL('')
        url('https://user@example.com:80/p?k=v#f').getScheme() == 'https'
        url('https://example.com:80/').getHost() == 'example.com:80' && url('https://example.com:80/').getHostname() == 'example.com'
        url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''
        url('https://[::1]:80/').getHost() == '[::1]:80' && url('https://[::1]:80/').getHostname() == '::1'
        url('https://example.com/with space/').getEscapedPath() == '/with%20space/' && url('/path').getHost() == ''
        url('https://e.com/?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}
        url('https://e.com/?k=a%20b+c').getQuery()['k'] == ['a b c'] && url('https://e.com/').getQuery() == {}
        url('https://e.com') == url('https://e.com') && url('mailto:a@b').getScheme() == 'mailto'
        ",
    );
    all_fail(
        r#"
        url('nope') => URL parse error during conversion from string: parse "nope": invalid URI for request
        url('https://a/%zz') => URL parse error during conversion from string: parse "https://a/%zz": invalid URL escape "%zz"
        "#,
    );
}

#[test]
fn quantities_and_versions_have_an_order() {
    all_true(
        "
        isQuantity('1.3G') && !isQuantity('1.3GiB') && isQuantity('-100m')
        quantity('1Gi') == quantity('1024Mi') && quantity('1G').isLessThan(quantity('1Gi'))
        quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('50M').isGreaterThan(quantity('50k'))
        quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')) == quantity('30k')
        quantity('50M').asInteger() == 50000000 && quantity('9.8m').isInteger() == false
        quantity('50.5').asApproximateFloat() == 50.5 && quantity('-1').sign() == -1 && sign(quantity('1')) == 1
        isSemver('1.0.0') && !isSemver('1.0') && !isSemver('v1.0.0') && isSemver('v1.0', true) && !isSemver('01.0.0')
        semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3
        semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1'))
        semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10')) == -1 && semver('1.0.0-1').isLessThan(semver('1.0.0-a'))
        semver('v01.2', true) == semver('1.2.0') && semver('1.0.0+a') == semver('1.0.0+b')
        ",
    );
    all_fail(
        "
        quantity('x') => quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        quantity('1.5').asInteger() => cannot convert value to integer
        semver('1.0') => No Major.Minor.Patch elements found
        semver('a.0.0') => Invalid character(s) found in major number \"a\"
        ",
    );
}

#[test]
fn formats_have_names() {
    all_true(
        "
        !format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My').hasValue()
        !format.dns1123Subdomain().validate('a.b').hasValue() && !format.dns1035Label().validate('a1').hasValue()
        format.dns1035Label().validate('1a').hasValue() && !format.qualifiedName().validate('a.b/c').hasValue()
        !format.dns1123LabelPrefix().validate('my-').hasValue() && !format.labelValue().validate('').hasValue()
        !format.uri().validate('https://a').hasValue() && format.uri().validate('x y').hasValue()
        !format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && format.uuid().validate('x').value() == ['does not match the UUID format']
        !format.byte().validate('YQ==').hasValue() && format.byte().validate('%').value() == ['invalid base64']
        !format.date().validate('2021-01-01').hasValue() && !format.datetime().validate('2021-01-01T00:00:00Z').hasValue()
        format.named('dns1123Label').value().validate('a') == optional.none() && !format.named('x').hasValue()
        ",
    );
}

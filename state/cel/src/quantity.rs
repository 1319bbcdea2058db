//! Quantities: `100m`, `1.5Gi`, `12e6`.
//!
//! A quantity is an exact number of billionths. As Kubernetes has it, what is finer is rounded away from zero, what is
//! larger than 2^63-1 is capped, and the canonical form has no fraction and the largest suffix that loses nothing.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

const NANOS: i128 = 1_000_000_000;
const MAX: i128 = (i64::MAX as i128) * NANOS;

/// The family of suffixes that a quantity is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Ki`, `Mi`, `Gi`, …
    BinarySi,
    /// `m`, `k`, `M`, …
    DecimalSi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// An exact number with the suffix family that it was written in.
///
/// Equality and order look at the number alone: `1024Mi == 1Gi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

impl Quantity {
    /// The quantity 0.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Makes a quantity of whole units.
    pub fn from_units(units: i64) -> Quantity {
        Quantity {
            nanos: i128::from(units) * NANOS,
            format: Format::DecimalSi,
        }
    }

    /// Makes a quantity of thousandths.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity {
            nanos: i128::from(milli) * (NANOS / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Makes a quantity of billionths.
    pub fn from_nanos(nanos: i64) -> Quantity {
        Quantity {
            nanos: i128::from(nanos),
            format: Format::DecimalSi,
        }
    }

    /// Makes a quantity of bytes, printed with `Ki`, `Mi`, …
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity {
            nanos: i128::from(bytes) * NANOS,
            format: Format::BinarySi,
        }
    }

    /// Reads a quantity from JSON, where it may be a text or a number.
    pub fn from_value(value: &Value) -> Result<Quantity, ParseQuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseQuantityError),
        }
    }

    /// Returns whole units, rounded up.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// Returns thousandths, rounded up, and capped at the largest i64.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let (quotient, rest) = (self.nanos.div_euclid(unit), self.nanos.rem_euclid(unit));
        let rounded = quotient + i128::from(rest != 0);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// Returns the quantity rounded up to thousandths, as lists of resources have it.
    #[must_use]
    pub fn rounded_up_to_milli(self) -> Quantity {
        const MILLI: i128 = NANOS / 1000;
        let rest = self.nanos.rem_euclid(MILLI);
        if rest == 0 {
            return self;
        }
        // Away from zero, as Go's decimals round up.
        let down = self.nanos - rest;
        Quantity {
            nanos: if self.nanos > 0 { down + MILLI } else { down },
            format: self.format,
        }
    }

    /// Returns the number as a float; inexact where floats are.
    #[allow(clippy::cast_precision_loss)]
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Returns whether this is 0.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Returns whether this is below 0.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Returns whether this has a part below one unit.
    pub fn is_fractional(&self) -> bool {
        self.nanos % NANOS != 0
    }

    /// Returns the suffix family.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;

    /// Adds; a zero takes the other's format, the sum is capped.
    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity {
            nanos: -self.nanos,
            format: self.format,
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Quantity, ParseQuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseQuantityError);
        }
        let (factor, exponent, format) = suffix_of(suffix).ok_or(ParseQuantityError)?;
        let digits = [whole, fraction].concat();
        let nanos = to_nanos(digits.trim_start_matches('0'), exponent - fraction.len() as i64, factor);
        // A fraction of a byte is not written in Ki.
        let format = if format == Format::BinarySi && nanos < NANOS {
            Format::DecimalSi
        } else {
            format
        };
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// Returns what a suffix multiplies with: a factor and a power of ten.
fn suffix_of(suffix: &str) -> Option<(i128, i64, Format)> {
    let decimal = |exponent| Some((1, exponent, Format::DecimalSi));
    let binary = |power: u32| Some((1i128 << (10 * power), 0, Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            Some((1, exponent.parse().ok()?, Format::DecimalExponent))
        }
    }
}

/// Returns digits × 10^exponent × factor in billionths, rounded up and capped.
fn to_nanos(digits: &str, exponent: i64, factor: i128) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    // The last digit's place in billionths: places below zero are lost by rounding.
    let place = exponent + 9;
    // More than 29 digits in front of the billionths' place are over the cap, whatever the factor.
    let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    if length.saturating_add(place) > 29 {
        return MAX;
    }
    // With a binary factor the lost digits can matter: keep 9 more of them before multiplying.
    let extra = if factor > 1 { 9 } else { 0 };
    let place = place + extra;
    let (kept, lost) = if place >= 0 {
        (digits, "")
    } else {
        let cut = usize::try_from(-place).unwrap_or(usize::MAX).min(digits.len());
        digits.split_at(digits.len() - cut)
    };
    let mut value: i128 = 0;
    for digit in kept.bytes() {
        let Some(next) = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
        else {
            return MAX;
        };
        value = next;
    }
    for _ in 0..place.max(0) {
        let Some(next) = value.checked_mul(10) else { return MAX };
        value = next;
    }
    let Some(mut value) = value.checked_mul(factor) else {
        return MAX;
    };
    let mut inexact = lost.bytes().any(|digit| digit != b'0');
    if extra > 0 {
        inexact |= value % NANOS != 0;
        value /= NANOS;
    }
    (value + i128::from(inexact)).min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANOS;
        let small = units > -1024 && units < 1024;
        if self.format == Format::BinarySi && !small && !self.is_fractional() {
            let (mut mantissa, mut power) = (units, 0);
            while mantissa % 1024 == 0 && power < 6 {
                mantissa /= 1024;
                power += 1;
            }
            return write!(f, "{mantissa}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{mantissa}")
            } else {
                write!(f, "{mantissa}e{exponent}")
            };
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        write!(f, "{mantissa}{suffix}")
    }
}

/// Rewrites a quantity in its canonical form; anything else stays as it is, for validation to refuse.
pub fn canonicalize(value: &mut Value) {
    if let Ok(quantity) = Quantity::from_value(value) {
        *value = quantity.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn quantities_print_in_canonical_form() {
        for (text, expected) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("1", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("1e3", "1e3"),
            ("100e-3", "100e-3"),
            ("1E", "1E"),
            ("10E", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("-1.5", "-1500m"),
            ("+7", "7"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("123456789012345678901234567890", "9223372036854775807"),
            ("1e-20", "1e-9"),
            ("1e30", "9223372036854775807"),
            ("00012", "12"),
            ("5u", "5u"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", " 1", "1 ", "a", "1.2.3", "1ki", "1K", "--1", "+", "-", ".", "1e", "1e+", "1mi", "1e1.5", "0x1", "1Zi",
            "1i", "e3",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_are_rounded_up() {
        let half: Quantity = "1500m".parse().unwrap();
        assert_eq!((half.value(), half.milli_value()), (2, 1500));
        let negative: Quantity = "-1500m".parse().unwrap();
        assert_eq!(negative.value(), -1);
        assert_eq!("8E".parse::<Quantity>().unwrap().milli_value(), i64::MAX);
    }

    fn any_quantity() -> impl Strategy<Value = Quantity> {
        (
            "[+-]?[0-9]{1,9}(\\.[0-9]{0,10})?",
            proptest::sample::select(vec!["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "e-4"]),
        )
            .prop_map(|(number, suffix)| format!("{number}{suffix}").parse().expect("a quantity by construction"))
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_number_and_text(q in any_quantity()) {
            let again: Quantity = q.to_string().parse().unwrap();
            prop_assert_eq!(again, q);
            prop_assert_eq!(again.to_string(), q.to_string());
        }

        #[test]
        fn the_order_is_total_and_agrees_with_addition(a in any_quantity(), b in any_quantity(), c in any_quantity()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) - b, a);
            if a <= b && b <= c { prop_assert!(a <= c); }
            if a <= b { prop_assert!(a + c <= b + c); }
            prop_assert_eq!(a == b, a.cmp(&b) == std::cmp::Ordering::Equal);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            drop(text.parse::<Quantity>());
        }
    }
}

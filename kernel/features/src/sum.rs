//! Sums that do not depend on the order of their terms.
//!
//! Adding floats rounds at every step, so the same events in another order, or cut into other buckets, would give
//! another sum. [`ExactSum`] keeps the exact sum as one long fixed-point number (after Kulisch): every finite f64 and
//! every i64 is a multiple of 2⁻¹⁰⁷⁴, so terms are added without loss and the result is rounded once, when it is read.

use serde::{Deserialize, Serialize};

use crate::value::Value;

/// The lowest bit of the fixed-point number is 2⁻¹⁰⁷⁴, the smallest positive f64.
const LOWEST_EXPONENT: i32 = -1_074;
/// Bits in a digit.
const DIGIT_BITS: u32 = 32;
const DIGIT_MASK: i64 = 0xffff_ffff;

/// An exact sum of whole numbers and floats. A few bytes for values of similar size, at most 67 digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExactSum {
    /// How many zero digits lie below the first stored one.
    offset: u8,
    /// Base 2³², lowest first; all but the last are in 0..2³², the last carries the sign.
    digits: Vec<i64>,
    /// Whether a term was a float, so that the sum is one.
    float: bool,
}

impl ExactSum {
    /// Add a term; what is no number is left out.
    pub(crate) fn add(&mut self, value: &Value) {
        match *value {
            Value::Int(term) => self.add_scaled(term < 0, term.unsigned_abs(), 0),
            Value::Float(term) if term.is_finite() => {
                self.float = true;
                let bits = term.abs().to_bits();
                let fraction = bits & ((1 << 52) - 1);
                match (bits >> 52) as i32 {
                    0 => self.add_scaled(term < 0.0, fraction, LOWEST_EXPONENT),
                    exponent => self.add_scaled(term < 0.0, fraction | (1 << 52), exponent - 1_075),
                }
            }
            _ => {}
        }
    }

    /// How many bytes of memory it takes beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
    }

    /// Add ± `magnitude` · 2^`exponent`.
    fn add_scaled(&mut self, negative: bool, magnitude: u64, exponent: i32) {
        if magnitude == 0 {
            return;
        }
        let place = exponent.abs_diff(LOWEST_EXPONENT);
        let wide = u128::from(magnitude) << (place % DIGIT_BITS);
        let first = (place / DIGIT_BITS) as usize;
        self.reach(first, first + 3);
        for digit in 0..4 {
            let part = ((wide >> (DIGIT_BITS * digit)) as i64) & DIGIT_MASK;
            let at = first + digit as usize - usize::from(self.offset);
            self.digits[at] += if negative { -part } else { part };
        }
        self.carry();
    }

    /// Add another sum.
    pub(crate) fn merge(&mut self, other: &ExactSum) {
        self.float |= other.float;
        let Some(last) = other.digits.len().checked_sub(1) else { return };
        let first = usize::from(other.offset);
        self.reach(first, first + last);
        for (index, digit) in other.digits.iter().enumerate() {
            self.digits[first + index - usize::from(self.offset)] += digit;
        }
        self.carry();
    }

    /// Make the digits `first..=last` addressable.
    fn reach(&mut self, first: usize, last: usize) {
        if self.digits.is_empty() {
            self.offset = first as u8;
        }
        let offset = usize::from(self.offset);
        if first < offset {
            self.digits.splice(0..0, std::iter::repeat_n(0, offset - first));
            self.offset = first as u8;
        }
        let len = (last + 1 - usize::from(self.offset)).max(self.digits.len());
        self.digits.resize(len, 0);
    }

    /// Bring all digits but the last into 0..2³² and drop zeros at both ends.
    fn carry(&mut self) {
        let mut carry = 0;
        for digit in &mut self.digits {
            let sum = *digit + carry;
            *digit = sum & DIGIT_MASK;
            carry = sum >> DIGIT_BITS;
        }
        // The sign goes back into the last digit, which so stays small.
        match carry {
            0 => {}
            -1 if self.digits.last().is_some_and(|last| *last != 0) => {
                let last = self.digits.len() - 1;
                self.digits[last] -= 1 << DIGIT_BITS;
            }
            carry => self.digits.push(carry),
        }
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.offset = if self.digits.is_empty() { 0 } else { self.offset + zeros as u8 };
    }

    /// The sum: a whole number if all terms were and it fits, else the nearest float; null beyond the range of floats.
    pub(crate) fn value(&self) -> Value {
        let whole = if self.float { None } else { self.whole() };
        whole.map_or_else(|| Value::float(self.rounded()), Value::Int)
    }

    /// The sum as a float, rounded to nearest, ties to even; infinite beyond the range of floats.
    pub(crate) fn rounded(&self) -> f64 {
        let low_bit = u32::from(self.offset) * DIGIT_BITS;
        if self.digits.last().is_none_or(|last| *last >= 0) {
            return magnitude_to_f64(&self.digits, low_bit);
        }
        let mut digits: Vec<i64> = self.digits.iter().map(|digit| -digit).collect();
        let mut carry = 0;
        for digit in &mut digits {
            let sum = *digit + carry;
            *digit = sum & DIGIT_MASK;
            carry = sum >> DIGIT_BITS;
        }
        digits.push(carry);
        -magnitude_to_f64(&digits, low_bit)
    }

    /// The sum as a whole number, where all terms were whole.
    fn whole(&self) -> Option<i64> {
        // Bit `place` of the fixed-point number is worth 1.
        let place = LOWEST_EXPONENT.unsigned_abs();
        let mut sum: i128 = 0;
        for (index, digit) in self.digits.iter().enumerate().rev() {
            let at = (u32::from(self.offset) + index as u32) * DIGIT_BITS;
            let shifted = if at >= place {
                i128::from(*digit).checked_mul(1_i128.checked_shl(at - place).filter(|_| at - place < 90)?)?
            } else {
                // Terms are whole, so only zeros are shifted out.
                i128::from(*digit) >> (place - at)
            };
            sum = sum.checked_add(shifted)?;
        }
        i64::try_from(sum).ok()
    }
}

/// The float nearest to Σ digits\[i\] · 2^(32 i + `low_bit` − 1074); digits are in 0..2³².
fn magnitude_to_f64(digits: &[i64], low_bit: u32) -> f64 {
    let Some(top) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
    // A float holds 53 bits below and including the highest, which three digits always have where there are more; what is
    // lower decides the rounding.
    let from = top.saturating_sub(2);
    let high = digits[from..=top]
        .iter()
        .rev()
        .fold(0_u128, |high, digit| high << DIGIT_BITS | u128::from(digit.cast_unsigned()));
    let cut = (u128::BITS - high.leading_zeros()).saturating_sub(53);
    let mut mantissa = (high >> cut) as u64;
    if cut > 0 {
        let half = 1_u128 << (cut - 1);
        let below = high & (half - 1) != 0 || digits[..from].iter().any(|digit| *digit != 0);
        mantissa += u64::from(high & half != 0 && (below || mantissa & 1 == 1));
    }
    // Exact: a mantissa of at most 54 bits with at most one carried bit, times a power of two in two exact steps.
    let exponent = (cut + from as u32 * DIGIT_BITS + low_bit) as i32 + LOWEST_EXPONENT;
    scale(mantissa as f64, exponent)
}

/// `mantissa` · 2^`exponent`, for results that are representable or infinite.
fn scale(mantissa: f64, exponent: i32) -> f64 {
    if exponent > 1_023 {
        return f64::INFINITY;
    }
    let power = |exponent: i32| {
        if exponent >= -1_022 {
            f64::from_bits(u64::from((exponent + 1_023).unsigned_abs()) << 52)
        } else {
            f64::from_bits(1 << (exponent - LOWEST_EXPONENT))
        }
    };
    mantissa * power(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(terms: &[Value]) -> ExactSum {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|term| sum.add(term));
        sum
    }

    fn floats(terms: &[f64]) -> Vec<Value> {
        terms.iter().copied().map(Value::Float).collect()
    }

    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(sum_of(&[]).value(), Value::Int(0));
        assert_eq!(sum_of(&floats(&[0.1; 10])).value(), Value::Float(1.0));
        assert_eq!(sum_of(&floats(&[1e16, 1.0, -1e16])).value(), Value::Float(1.0));
        assert_eq!(sum_of(&floats(&[1e308, 1e308, -1e308])).value(), Value::Float(1e308));
        assert_eq!(sum_of(&floats(&[1e308, 1e308])).value(), Value::Null);
        assert_eq!(sum_of(&floats(&[f64::MIN_POSITIVE, -5e-324])).value(), Value::Float(f64::MIN_POSITIVE - 5e-324));
        assert_eq!(sum_of(&[Value::Int(i64::MAX), Value::Int(i64::MIN)]).value(), Value::Int(-1));
        assert_eq!(sum_of(&[Value::Int(i64::MIN)]).value(), Value::Int(i64::MIN));
        assert_eq!(sum_of(&[Value::Int(i64::MAX), Value::Int(1)]).value(), Value::Float(9_223_372_036_854_775_808.0));
        assert_eq!(sum_of(&[Value::Int(2), Value::Float(0.5), Value::Text("x".into())]).value(), Value::Float(2.5));
        assert_eq!(sum_of(&[Value::Int(1), Value::Float(1.0)]).value(), Value::Float(2.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn two_terms_are_what_the_processor_says(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(sum_of(&floats(&[a, b])).value(), Value::float(a + b));
        }

        #[test]
        fn whole_numbers_are_exact(terms in prop::collection::vec(any::<i64>(), 0..20)) {
            let exact: i128 = terms.iter().map(|term| i128::from(*term)).sum();
            let sum = sum_of(&terms.iter().copied().map(Value::Int).collect::<Vec<_>>()).value();
            match i64::try_from(exact) {
                Ok(exact) => prop_assert_eq!(sum, Value::Int(exact)),
                Err(_) => prop_assert_eq!(sum, Value::Float(exact as f64)),
            }
        }

        #[test]
        fn order_and_grouping_never_matter(terms in prop::collection::vec(any::<f64>(), 0..20), cut in 0usize..20) {
            let terms: Vec<f64> = terms.into_iter().filter(|term| term.is_finite()).collect();
            let cut = cut.min(terms.len());
            let forth = sum_of(&floats(&terms));
            let mut back = terms.clone();
            back.reverse();
            prop_assert_eq!(sum_of(&floats(&back)).value(), forth.value());
            let mut parts = sum_of(&floats(&terms[cut..]));
            parts.merge(&sum_of(&floats(&terms[..cut])));
            prop_assert_eq!(parts.value(), forth.value());
        }
    }
}

//! Reads and writes the binary form of Postgres's `numeric` as a scaled 128-bit integer.
//!
//! The form is that of `src/backend/utils/adt/numeric.c`: after the varlena header, a short header (bit 15 set:
//! sign bit 13, display scale bits 7–12, weight bits 0–6 in two's complement) or a long one (sign and display scale
//! in the first u16, weight in the second); then base-10000 digits, most significant first, in native byte order.
//! NaN and the infinities are told by the top bits of the first u16 alone.

/// Powers of ten that fit an i128.
const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

const SIGN_MASK: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
const SPECIAL_MASK: u16 = 0xF000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
const SHORT_NEGATIVE: u16 = 0x2000;
const LONG_SCALE_MASK: u16 = 0x3FFF;
/// A short header holds display scales up to this and weights from -64 to 63.
const SHORT_SCALE_MAX: u16 = 63;
const DIGIT_WIDTH: i32 = 4;
/// The most digits that an i128 can need: 39 decimal ones, at any alignment.
const DIGITS_MAX: usize = 11;
/// The longest encoding: varlena header, long header, digits.
pub const ENCODED_MAX: usize = 4 + 4 + 2 * DIGITS_MAX;

/// What a `numeric` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal {
    /// `unscaled / 10^scale`, printed with `scale` decimals.
    Finite {
        unscaled: i128,
        scale: u16,
    },
    NaN,
    PositiveInfinity,
    NegativeInfinity,
    /// Finite, but beyond 128 bits: only Postgres's own arithmetic can hold it.
    Wide,
}

/// 10 to the `exponent`, if it fits.
pub(crate) fn power(exponent: u16) -> Option<i128> {
    POWERS.get(usize::from(exponent)).copied()
}

fn word(bytes: &[u8], index: usize) -> Option<u16> {
    let at = index * 2;
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl Decimal {
    /// Decodes the payload of a detoasted `numeric`: what follows the varlena header.
    ///
    /// Bytes that no `numeric` has decode as [`Decimal::Wide`], which leaves them to Postgres.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Self {
        Self::try_decode(payload).unwrap_or(Self::Wide)
    }

    fn try_decode(payload: &[u8]) -> Option<Self> {
        let header = word(payload, 0)?;
        let (negative, scale, weight, first) = match header & SIGN_MASK {
            SPECIAL => {
                return Some(match header & SPECIAL_MASK {
                    NAN => Self::NaN,
                    POSITIVE_INFINITY => Self::PositiveInfinity,
                    NEGATIVE_INFINITY => Self::NegativeInfinity,
                    _ => Self::Wide,
                });
            }
            SHORT => {
                // Seven bits of two's complement, widened.
                let weight = i32::from(((header & 0x7F) << 9) as i16 >> 9);
                (header & SHORT_NEGATIVE != 0, (header & 0x1F80) >> 7, weight, 1)
            }
            sign => (sign == NEGATIVE, header & LONG_SCALE_MASK, i32::from(word(payload, 1)? as i16), 2),
        };
        let mut unscaled: i128 = 0;
        for (position, index) in (first..payload.len() / 2).enumerate() {
            let digit = word(payload, index)?;
            let exponent = DIGIT_WIDTH * (weight - i32::try_from(position).ok()?) + i32::from(scale);
            unscaled = if exponent >= 0 {
                unscaled.checked_add(i128::from(digit).checked_mul(power(u16::try_from(exponent).ok()?)?)?)?
            } else {
                // Digits beyond the display scale are zero: a numeric is never more precise than it prints.
                let divisor = 10u16.checked_pow(u32::try_from(-exponent).ok()?);
                match divisor {
                    Some(divisor) if digit % divisor == 0 => unscaled.checked_add(i128::from(digit / divisor))?,
                    None if digit == 0 => unscaled,
                    _ => return None,
                }
            };
        }
        Some(Self::Finite { unscaled: if negative { -unscaled } else { unscaled }, scale })
    }
}

/// Encodes `unscaled / 10^scale` as a complete varlena `numeric` into `buffer`; returns its length in bytes.
///
/// `None` where the number needs more digits than the buffer has; `scale` is at most 16,383, as in Postgres.
#[must_use]
pub fn encode(unscaled: i128, scale: u16, buffer: &mut [u8; ENCODED_MAX]) -> Option<usize> {
    // Align the decimal point to a base-10000 digit.
    let fraction_digits = i32::from(scale.div_ceil(4));
    let padding = (4 - scale % 4) % 4;
    let mut rest = unscaled.unsigned_abs();
    let mut digits = [0u16; DIGITS_MAX];
    let mut count = 0;
    if padding > 0 && rest > 0 {
        // The lowest digit holds the last (4 - padding) decimals, shifted up.
        let low = 10u64.pow(u32::from(4 - padding));
        let digit;
        (rest, digit) = match u64::try_from(rest) {
            Ok(rest) => (u128::from(rest / low), rest % low),
            Err(_) => (rest / u128::from(low), u64::try_from(rest % u128::from(low)).ok()?),
        };
        digits[0] = u16::try_from(digit * 10u64.pow(u32::from(padding))).ok()?;
        count = 1;
    }
    // Division of 128 bits is slow; amounts of money fit 64.
    while rest > u128::from(u64::MAX) {
        *digits.get_mut(count)? = u16::try_from(rest % 10_000).ok()?;
        rest /= 10_000;
        count += 1;
    }
    let mut rest = u64::try_from(rest).ok()?;
    while rest > 0 {
        *digits.get_mut(count)? = u16::try_from(rest % 10_000).ok()?;
        rest /= 10_000;
        count += 1;
    }
    let zeros = digits[..count].iter().take_while(|digit| **digit == 0).count();
    let digits = &digits[zeros..count];
    let weight = if digits.is_empty() { 0 } else { i32::try_from(count).ok()? - 1 - fraction_digits };
    let negative = unscaled < 0;

    let mut at = 4;
    let mut put = |value: u16| {
        buffer[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        at += 2;
    };
    if scale <= SHORT_SCALE_MAX && (-64..=63).contains(&weight) {
        put(SHORT | if negative { SHORT_NEGATIVE } else { 0 } | (scale << 7) | (weight as u16 & 0x7F));
    } else {
        put(if negative { NEGATIVE } else { 0 } | (scale & LONG_SCALE_MASK));
        put(weight as u16);
    }
    for digit in digits.iter().rev() {
        put(*digit);
    }
    // SET_VARSIZE of an uncompressed 4-byte header: the length shifted by two on little-endian machines.
    let length = u32::try_from(at).ok()?;
    let header = if cfg!(target_endian = "little") { length << 2 } else { length };
    buffer[..4].copy_from_slice(&header.to_ne_bytes());
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(unscaled: i128, scale: u16) {
        let mut buffer = [0; ENCODED_MAX];
        let length = encode(unscaled, scale, &mut buffer).unwrap();
        assert_eq!(Decimal::decode(&buffer[4..length]), Decimal::Finite { unscaled, scale });
    }

    #[test]
    fn the_bytes_are_those_of_postgres() {
        // select numeric_send('-12.345'::numeric) and pg_column_size: digits 12, 3450; weight 0; scale 3.
        let mut buffer = [0; ENCODED_MAX];
        let length = encode(-12_345, 3, &mut buffer).unwrap();
        let words: Vec<u16> = buffer[4..length].chunks(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect();
        assert_eq!(words, [0x8000 | 0x2000 | (3 << 7), 12, 3450]);
    }

    #[test]
    fn zero_keeps_its_scale_and_has_no_digits() {
        let mut buffer = [0; ENCODED_MAX];
        assert_eq!(encode(0, 2, &mut buffer), Some(6));
        assert_eq!(Decimal::decode(&buffer[4..6]), Decimal::Finite { unscaled: 0, scale: 2 });
    }

    #[test]
    fn specials_and_garbage_are_told_apart() {
        for (header, expected) in [
            (NAN, Decimal::NaN),
            (POSITIVE_INFINITY, Decimal::PositiveInfinity),
            (NEGATIVE_INFINITY, Decimal::NegativeInfinity),
        ] {
            assert_eq!(Decimal::decode(&header.to_ne_bytes()), expected);
        }
        assert_eq!(Decimal::decode(&[]), Decimal::Wide);
    }

    #[test]
    fn a_number_beyond_128_bits_is_wide() {
        // Long header: weight 20 is at least 10^80.
        let words: [u16; 3] = [0, 20, 1];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(Decimal::decode(&bytes), Decimal::Wide);
    }

    #[test]
    fn extremes_round_trip() {
        for scale in 0..=38 {
            for unscaled in [0, 1, -1, 9_999, 10_000, i128::MAX, -i128::MAX] {
                round_trip(unscaled, scale);
            }
        }
        round_trip(5, 200);
    }

    proptest! {
        #[test]
        fn any_round_trips(unscaled in -i128::MAX..=i128::MAX, shift in 0u32..127, scale in 0u16..60) {
            round_trip(unscaled >> shift, scale);
        }
    }
}

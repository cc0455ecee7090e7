//! A sum of decimals of differing scales, exact or refused.

use crate::decimal::power;

/// `unscaled / 10^scale`; the scale is the largest seen, as in Postgres's own sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecimalSum {
    unscaled: i128,
    scale: u16,
}

impl DecimalSum {
    /// Adds `sign * unscaled / 10^scale`; `false`, and nothing added, where the result does not fit 128 bits.
    #[must_use]
    pub fn add(&mut self, sign: i8, unscaled: i128, scale: u16) -> bool {
        match self.sum(sign, unscaled, scale) {
            Some(sum) => {
                *self = sum;
                true
            }
            None => false,
        }
    }

    fn sum(&self, sign: i8, unscaled: i128, scale: u16) -> Option<Self> {
        let term = unscaled.checked_mul(i128::from(sign))?;
        let unscaled = if scale == self.scale {
            self.unscaled.checked_add(term)?
        } else if scale > self.scale {
            self.unscaled.checked_mul(power(scale - self.scale)?)?.checked_add(term)?
        } else {
            term.checked_mul(power(self.scale - scale)?)?.checked_add(self.unscaled)?
        };
        // i128::MIN has no counterpart that could be taken away again.
        (unscaled != i128::MIN).then_some(Self { unscaled, scale: scale.max(self.scale) })
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.unscaled == 0
    }

    #[must_use]
    pub fn unscaled(&self) -> i128 {
        self.unscaled
    }

    #[must_use]
    pub fn scale(&self) -> u16 {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    proptest! {
        #[test]
        fn equals_the_sum_of_another_library(terms in prop::collection::vec((any::<bool>(), -10_000_000_000i64..10_000_000_000, 0u16..8), 0..50)) {
            let mut sum = DecimalSum::default();
            let mut expected = Decimal::ZERO;
            for (minus, unscaled, scale) in &terms {
                let term = Decimal::new(*unscaled, u32::from(*scale));
                expected += if *minus { -term } else { term };
                let sign = if *minus { -1 } else { 1 };
                prop_assert!(sum.add(sign, i128::from(*unscaled), *scale));
            }
            prop_assert_eq!(Decimal::from_i128_with_scale(sum.unscaled(), u32::from(sum.scale())), expected);
        }

        #[test]
        fn taking_away_what_was_added_leaves_zero(terms in prop::collection::vec((any::<i64>(), 0u16..10), 0..50)) {
            let mut sum = DecimalSum::default();
            for (unscaled, scale) in &terms { prop_assert!(sum.add(1, i128::from(*unscaled), *scale)); }
            for (unscaled, scale) in &terms { prop_assert!(sum.add(-1, i128::from(*unscaled), *scale)); }
            prop_assert!(sum.is_zero());
        }
    }

    #[test]
    fn overflow_is_refused_and_changes_nothing() {
        let mut sum = DecimalSum::default();
        assert!(sum.add(1, i128::MAX, 0));
        let before = sum;
        assert!(!sum.add(1, 1, 0));
        assert!(!sum.add(1, 1, 1), "rescaling would overflow");
        assert_eq!(sum, before);
    }
}

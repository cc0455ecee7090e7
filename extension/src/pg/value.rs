//! Values as Postgres passes them: keys turned into bytes to be compared, numbers added up, results built.

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyNumeric, FromDatum, IntoDatum};
use pulso_core::decimal::{ENCODED_MAX, encode};
use pulso_core::{Decimal, DecimalSum};

/// How a type is passed.
#[derive(Debug, Clone, Copy)]
pub struct Passing {
    length: i16,
    by_value: bool,
}

impl Passing {
    pub fn of(type_oid: pg_sys::Oid) -> Self {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: out-parameters of this frame; an unknown type raises an error.
        unsafe { pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value) };
        Self { length, by_value }
    }

    /// Appends bytes to `key` that are equal for equal values of one representation: values that SQL holds equal but
    /// that print differently (1.0, 1.00) may differ, and then give two deltas where one would do.
    pub fn append_key(&self, value: pg_sys::Datum, null: bool, key: &mut Vec<u8>) {
        if null {
            key.push(0);
            return;
        }
        key.push(1);
        if self.by_value {
            key.extend_from_slice(&value.value().to_ne_bytes());
            return;
        }
        // SAFETY: a non-NULL value of this type points to `length` bytes, or to a varlena where that is -1.
        unsafe {
            let bytes = match self.length {
                -1 => {
                    let flat = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
                    let length = pgrx::varlena::varsize_any_exhdr(flat);
                    key.extend_from_slice(&(length as u64).to_ne_bytes());
                    std::slice::from_raw_parts(pgrx::varlena::vardata_any(flat).cast::<u8>(), length)
                }
                -2 => std::ffi::CStr::from_ptr(value.cast_mut_ptr()).to_bytes_with_nul(),
                length => std::slice::from_raw_parts(value.cast_mut_ptr::<u8>(), length.unsigned_abs().into()),
            };
            key.extend_from_slice(bytes);
        }
    }

    /// Copies a value into the current memory context.
    pub fn copy(&self, value: pg_sys::Datum, null: bool) -> pg_sys::Datum {
        if null || self.by_value {
            return value;
        }
        // SAFETY: as above; the copy is as long as the value.
        unsafe {
            let (from, size) = match self.length {
                -1 => {
                    let flat = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
                    (flat.cast::<u8>(), pgrx::varlena::varsize_any(flat))
                }
                -2 => {
                    let text: *mut std::ffi::c_char = value.cast_mut_ptr();
                    (text.cast::<u8>(), std::ffi::CStr::from_ptr(text).to_bytes_with_nul().len())
                }
                length => (value.cast_mut_ptr::<u8>(), length.unsigned_abs().into()),
            };
            let copy = pg_sys::palloc(size).cast::<u8>();
            std::ptr::copy_nonoverlapping(from, copy, size);
            pg_sys::Datum::from(copy)
        }
    }
}

fn decode(value: pg_sys::Datum) -> Decimal {
    // SAFETY: a non-NULL numeric is a varlena.
    unsafe {
        let flat = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
        let length = pgrx::varlena::varsize_any_exhdr(flat);
        Decimal::decode(std::slice::from_raw_parts(pgrx::varlena::vardata_any(flat).cast::<u8>(), length))
    }
}

/// Whether a non-NULL `numeric` is neither NaN nor infinite.
pub fn is_finite(value: pg_sys::Datum) -> bool {
    matches!(decode(value), Decimal::Finite { .. } | Decimal::Wide)
}

/// A sum of `numeric` values that can be taken away again: exact, with NaN and the infinities counted apart.
#[derive(Default)]
pub struct NumericSum {
    fast: DecimalSum,
    /// What does not fit 128 bits, by Postgres's own arithmetic.
    wide: Option<AnyNumeric>,
    pub nans: i64,
    pub infinities: i64,
    pub negative_infinities: i64,
}

impl NumericSum {
    /// Adds a non-NULL `numeric`, or takes it away.
    pub fn add(&mut self, sign: i8, value: pg_sys::Datum) {
        match decode(value) {
            Decimal::Finite { unscaled, scale } if self.fast.add(sign, unscaled, scale) => {}
            Decimal::NaN => self.nans += i64::from(sign),
            Decimal::PositiveInfinity => self.infinities += i64::from(sign),
            Decimal::NegativeInfinity => self.negative_infinities += i64::from(sign),
            Decimal::Finite { .. } | Decimal::Wide => self.add_wide(sign, value),
        }
    }

    fn add_wide(&mut self, sign: i8, value: pg_sys::Datum) {
        // SAFETY: a non-NULL numeric.
        let Some(term) = (unsafe { AnyNumeric::from_datum(value, false) }) else { return };
        let wide = self.wide.take().unwrap_or_default();
        self.wide = Some(if sign < 0 { wide - term } else { wide + term });
    }

    pub fn is_zero(&self) -> bool {
        self.nans == 0
            && self.infinities == 0
            && self.negative_infinities == 0
            && self.fast.is_zero()
            && self.wide.as_ref().is_none_or(|wide| *wide == AnyNumeric::default())
    }

    /// The total of the finite values, as a `numeric` in the current memory context.
    pub fn total(&self) -> pg_sys::Datum {
        let fast = numeric(self.fast.unscaled(), self.fast.scale());
        let Some(wide) = &self.wide else { return fast };
        // SAFETY: a numeric made just above.
        let fast = unsafe { AnyNumeric::from_datum(fast, false) }.unwrap_or_default();
        (fast + wide.clone()).into_datum().unwrap_or(pg_sys::Datum::null())
    }
}

/// A bigint; beyond its range Postgres's own error, as its sum would raise.
pub fn integer(sum: i128) -> pg_sys::Datum {
    match i64::try_from(sum) {
        Ok(sum) => pg_sys::Datum::from(sum),
        Err(_) => {
            ereport!(ERROR, PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range");
        }
    }
}

/// A `numeric` in the current memory context.
pub fn numeric(unscaled: i128, scale: u16) -> pg_sys::Datum {
    let mut buffer = [0; ENCODED_MAX];
    let Some(length) = encode(unscaled, scale, &mut buffer) else {
        // Cannot happen: the buffer holds any i128. Postgres reads the text all the same.
        let text = format!("{unscaled}e-{scale}");
        return text.parse::<AnyNumeric>().ok().and_then(IntoDatum::into_datum).unwrap_or(pg_sys::Datum::null());
    };
    // SAFETY: as many bytes as are allocated.
    unsafe {
        let copy = pg_sys::palloc(length).cast::<u8>();
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), copy, length);
        pg_sys::Datum::from(copy)
    }
}

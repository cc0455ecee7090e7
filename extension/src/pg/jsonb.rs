//! `pulso.jsonb_numeric`: a number out of a JSON object without a way through text.

use pgrx::pg_sys;
use pgrx::prelude::*;

super::version_1!(pg_finfo_jsonb_numeric_wrapper);

/// `pulso.jsonb_numeric(document jsonb, key text) returns numeric`, strict.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn jsonb_numeric_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: SQL declares two non-NULL arguments, a jsonb and a text; both are detoasted before they are read. The
    // number found lies inside the document, so it is copied into the caller's memory context, as a result must be.
    unsafe {
        let args = (*fcinfo).args.as_slice(2);
        let document = pg_sys::pg_detoast_datum(args[0].value.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let key = pg_sys::pg_detoast_datum_packed(args[1].value.cast_mut_ptr());
        let mut found = pg_sys::JsonbValue::default();
        let value = if (*document).root.header & pg_sys::JB_FOBJECT == 0 {
            std::ptr::null_mut()
        } else {
            pg_sys::getKeyJsonValueFromContainer(
                &mut (*document).root,
                pgrx::varlena::vardata_any(key),
                pgrx::varlena::varsize_any_exhdr(key) as i32,
                &mut found,
            )
        };
        if value.is_null() || (*value).type_ != pg_sys::jbvType::jbvNumeric {
            (*fcinfo).isnull = true;
            return pg_sys::Datum::null();
        }
        let number = (*value).val.numeric.cast::<pg_sys::varlena>();
        let size = pgrx::varlena::varsize_any(number);
        let copy = pg_sys::palloc(size).cast::<u8>();
        std::ptr::copy_nonoverlapping(number.cast::<u8>(), copy, size);
        pg_sys::Datum::from(copy)
    }
}

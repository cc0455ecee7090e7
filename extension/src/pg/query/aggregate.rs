//! The aggregates of a rollup's query: what is kept for each, and how the view shows it.

use super::{Argument, Definition, Expression, Parts, Percentile, Shown, check, key, node};
use crate::error::Refusal;
use crate::pg::session;
use pgrx::{FromDatum, PgList, pg_sys};
use std::ffi::CStr;

const MAINTAINED: &str = "Maintained are count, sum, avg, min, max, count(distinct), percentile_cont, percentile_disc, \
                          stddev, variance, bool_and and bool_or.";
const FIXED_SCALE: &str = "The digits of the result depend on the scale of every row in the group: \
                           cast the argument to a numeric of fixed scale, such as numeric(18,4).";

/// Types whose percentiles are kept: those that pg_catalog.min knows.
const ORDERED: [pg_sys::Oid; 12] = [
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::NUMERICOID,
    pg_sys::FLOAT4OID,
    pg_sys::FLOAT8OID,
    pg_sys::DATEOID,
    pg_sys::TIMEOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INTERVALOID,
    pg_sys::TEXTOID,
];

/// Reads a call of an aggregate, and notes in the definition what must be kept for it.
///
/// # Safety
/// A live call of the definition's query.
pub unsafe fn read(call: &pg_sys::Aggref, definition: &mut Definition) -> Result<Shown, Refusal> {
    let source = definition.source;
    let whole = Expression((call as *const pg_sys::Aggref).cast_mut().cast());
    let refuse = |hint| Err(Refusal::Aggregate { expression: whole.sql(source), hint });
    // SAFETY: a live Aggref; its lists hold what their names say.
    unsafe {
        check(Expression(call.aggfilter.cast()), source)?;
        let name = pg_sys::get_func_name(call.aggfnoid);
        let built_in = pg_sys::get_func_namespace(call.aggfnoid).to_u32() == pg_sys::PG_CATALOG_NAMESPACE;
        let name = if name.is_null() || !built_in { "" } else { CStr::from_ptr(name).to_str().unwrap_or_default() };
        let argument =
            PgList::<pg_sys::TargetEntry>::from_pg(call.args).get_ptr(0).map(|t| Expression((*t).expr.cast()));
        if let Some(argument) = argument {
            check(argument, source)?;
        }
        if let ("percentile_cont" | "percentile_disc", Some(argument)) = (name, argument) {
            return match percentile(call, name == "percentile_cont") {
                Some(percentile) if ORDERED.contains(&argument.type_oid()) => {
                    Ok(Shown::Percentile(definition.companion(argument, call.aggfilter)?, percentile))
                }
                _ => refuse("The fraction must be one constant from 0 to 1; the values numbers, dates, times or text."),
            };
        }
        if !call.aggdistinct.is_null() {
            return match (name, argument) {
                ("count", Some(argument)) if PgList::<pg_sys::TargetEntry>::from_pg(call.args).len() == 1 => {
                    Ok(Shown::Distinct(definition.companion(argument, call.aggfilter)?))
                }
                _ => refuse("Of DISTINCT only count(distinct …) of one expression is maintained."),
            };
        }
        if !call.aggorder.is_null() || !call.aggdirectargs.is_null() || call.aggvariadic {
            return refuse(MAINTAINED);
        }
        match (name, argument) {
            ("count", None) if call.aggfilter.is_null() => Ok(Shown::Rows),
            ("count", argument) => {
                let counted = argument.unwrap_or_else(truth);
                Ok(Shown::Present(definition.argument(counted, call.aggfilter, Parts::Present)))
            }
            ("sum" | "avg", Some(argument)) => {
                let parts = match parts_of_sum(argument) {
                    Ok(parts) => parts,
                    Err(hint) => return refuse(hint),
                };
                if name == "sum" {
                    return Ok(Shown::Sum(definition.argument(argument, call.aggfilter, parts)));
                }
                if has_loose_scale(argument) {
                    return refuse(FIXED_SCALE);
                }
                Ok(Shown::Average(definition.argument(argument, call.aggfilter, parts)))
            }
            ("variance" | "var_samp" | "var_pop" | "stddev" | "stddev_samp" | "stddev_pop", Some(argument)) => {
                let parts = match parts_of_sum(argument) {
                    Ok(parts) => parts,
                    Err(hint) => return refuse(hint),
                };
                if has_loose_scale(argument) {
                    return refuse(FIXED_SCALE);
                }
                let square = square(argument);
                let square_parts = if square.is_finite() { Parts::FiniteSum } else { Parts::NumericSum };
                Ok(Shown::Variance {
                    sum: definition.argument(argument, call.aggfilter, parts),
                    squares: definition.argument(square, call.aggfilter, square_parts),
                    sample: !name.ends_with("_pop"),
                    root: name.starts_with("stddev"),
                })
            }
            ("bool_and" | "every" | "bool_or", Some(argument)) => {
                let all = definition.argument(argument, call.aggfilter, Parts::Present);
                let trues = when(argument.0.cast(), truth());
                let trues = definition.argument(trues, call.aggfilter, Parts::Present);
                Ok(if name == "bool_or" { Shown::Any(all, trues) } else { Shown::Every(all, trues) })
            }
            ("min", Some(argument)) => Ok(Shown::Least(definition.companion(argument, call.aggfilter)?)),
            ("max", Some(argument)) => Ok(Shown::Greatest(definition.companion(argument, call.aggfilter)?)),
            _ => refuse(MAINTAINED),
        }
    }
}

/// What is kept to add up an expression, or why it cannot be.
fn parts_of_sum(argument: Expression) -> Result<Parts, &'static str> {
    match argument.type_oid() {
        pg_sys::INT2OID | pg_sys::INT4OID => Ok(Parts::SmallSum),
        pg_sys::INT8OID => Ok(Parts::BigSum),
        pg_sys::NUMERICOID if argument.is_finite() => Ok(Parts::FiniteSum),
        pg_sys::NUMERICOID => Ok(Parts::NumericSum),
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => {
            Err("Additions of floating-point numbers cannot be undone: cast the argument to numeric.")
        }
        _ => Err("Only integers and numeric are added up."),
    }
}

/// Whether it is a numeric whose values may differ in scale.
fn has_loose_scale(argument: Expression) -> bool {
    // SAFETY: a live expression.
    argument.type_oid() == pg_sys::NUMERICOID && unsafe { pg_sys::exprTypmod(argument.0) } < 0
}

/// `true`, as an expression.
fn truth() -> Expression {
    // SAFETY: makes a node of the current memory context.
    Expression(unsafe { pg_sys::makeBoolConst(true, false) })
}

/// A number times itself, as numeric.
fn square(number: Expression) -> Expression {
    let function = |signature: &str| -> pg_sys::Oid {
        session::one("select $1::pg_catalog.regprocedure::pg_catalog.oid", &[session::arg(signature.to_owned())])
            .unwrap_or_else(|| pgrx::error!("pulso: no function {signature}"))
    };
    let call = |function: pg_sys::Oid, arguments: &[*mut pg_sys::Node]| {
        let mut list = PgList::<pg_sys::Node>::new();
        arguments.iter().for_each(|argument| list.push(*argument));
        // SAFETY: nodes of the current memory context; numeric has no collation.
        unsafe {
            pg_sys::makeFuncExpr(
                function,
                pg_sys::NUMERICOID,
                list.into_pg(),
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            )
            .cast::<pg_sys::Node>()
        }
    };
    let number = match number.type_oid() {
        pg_sys::INT2OID => call(function("pg_catalog.numeric(int2)"), &[number.0]),
        pg_sys::INT4OID => call(function("pg_catalog.numeric(int4)"), &[number.0]),
        pg_sys::INT8OID => call(function("pg_catalog.numeric(int8)"), &[number.0]),
        _ => number.0,
    };
    Expression(call(function("pg_catalog.numeric_mul(numeric, numeric)"), &[number, number]))
}

/// What a call of percentile_cont or percentile_disc asks for; `None` where that is not one constant.
unsafe fn percentile(call: &pg_sys::Aggref, continuous: bool) -> Option<Percentile> {
    // SAFETY: a live Aggref; nodes are cast by their tags; the constant is a float8, passed by value.
    unsafe {
        let direct = PgList::<pg_sys::Node>::from_pg(call.aggdirectargs);
        // A literal such as 0.5 is a numeric, cast.
        let folded = pg_sys::eval_const_expressions(std::ptr::null_mut(), direct.get_ptr(0)?);
        let constant = folded.cast::<pg_sys::Const>();
        if direct.len() != 1
            || (*folded).type_ != pg_sys::NodeTag::T_Const
            || (*constant).consttype != pg_sys::FLOAT8OID
        {
            return None;
        }
        let fraction = f64::from_datum((*constant).constvalue, (*constant).constisnull)?;
        let order = PgList::<pg_sys::SortGroupClause>::from_pg(call.aggorder).get_ptr(0)?;
        let (mut family, mut input, mut strategy) = (pg_sys::InvalidOid, pg_sys::InvalidOid, 0);
        if !pg_sys::get_ordering_op_properties((*order).sortop, &mut family, &mut input, &mut strategy) {
            return None;
        }
        // A strategy number of a btree up to 17, a comparison of any index from 18 on.
        #[cfg(not(feature = "pg18"))]
        let descending = u32::from(strategy.unsigned_abs()) == pg_sys::BTGreaterStrategyNumber;
        #[cfg(feature = "pg18")]
        let descending = strategy == pg_sys::CompareType::COMPARE_GT;
        (0.0..=1.0).contains(&fraction).then_some(Percentile { fraction, continuous, descending })
    }
}

impl Definition {
    /// The place of an argument among those kept; aggregates of the same argument share it.
    fn argument(&mut self, expression: Expression, filter: *mut pg_sys::Expr, parts: Parts) -> usize {
        let expression = if filter.is_null() { expression } else { when(filter, expression) };
        if let Some(place) = self.arguments.iter().position(|kept| kept.expression == expression) {
            let kept = &mut self.arguments[place];
            kept.parts = kept.parts.max(parts);
            return place;
        }
        let always_present = expression.is_never_null();
        self.arguments.push(Argument { expression, parts, always_present });
        self.arguments.len() - 1
    }

    /// The place of an expression among those whose values are counted one by one.
    fn companion(&mut self, expression: Expression, filter: *mut pg_sys::Expr) -> Result<usize, Refusal> {
        let expression = if filter.is_null() { expression } else { when(filter, expression) };
        if let Some(place) = self.companions.iter().position(|kept| kept.expression == expression) {
            return Ok(place);
        }
        let order = order_of(expression);
        self.companions.push(key(expression, order, self.source)?);
        Ok(self.companions.len() - 1)
    }
}

/// The operator that sorts values of an expression's type; InvalidOid where there is none.
fn order_of(expression: Expression) -> pg_sys::Oid {
    let mut less = pg_sys::InvalidOid;
    // SAFETY: out-parameters may be NULL where they are not wanted.
    unsafe {
        pg_sys::get_sort_group_operators(
            expression.type_oid(),
            false,
            false,
            false,
            &mut less,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
    less
}

/// `case when filter then expression end`: what an aggregate's FILTER means, row by row.
fn when(filter: *mut pg_sys::Expr, expression: Expression) -> Expression {
    // SAFETY: nodes of the current memory context, zeroed and tagged as makeNode does.
    unsafe {
        let branch = node::<pg_sys::CaseWhen>(pg_sys::NodeTag::T_CaseWhen);
        (*branch).expr = filter;
        (*branch).result = expression.0.cast();
        (*branch).location = -1;
        let case = node::<pg_sys::CaseExpr>(pg_sys::NodeTag::T_CaseExpr);
        (*case).casetype = pg_sys::exprType(expression.0);
        (*case).casecollid = pg_sys::exprCollation(expression.0);
        (*case).args = pg_sys::lappend(std::ptr::null_mut(), branch.cast());
        (*case).location = -1;
        (*case).defresult =
            pg_sys::makeNullConst((*case).casetype, pg_sys::exprTypmod(expression.0), (*case).casecollid).cast();
        Expression(case.cast())
    }
}

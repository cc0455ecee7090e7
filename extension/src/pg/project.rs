//! Evaluates a rollup's expressions for a row, by Postgres's own executor.

use super::query::{Definition, Expression};
use pgrx::{PgList, pg_sys};

/// Where the keys and arguments of a rollup are among the values that are evaluated for a row.
pub struct Columns {
    pub keys: Vec<usize>,
    pub arguments: Vec<usize>,
}

/// Compiled expressions: a filter, then those of rollups that share it, each once.
pub struct Projector {
    context: pg_sys::MemoryContext,
    econtext: *mut pg_sys::ExprContext,
    filter: *mut pg_sys::ExprState,
    projection: *mut pg_sys::ProjectionInfo,
    slot: *mut pg_sys::TupleTableSlot,
    width: usize,
}

/// The values of one row, alive until the next is evaluated.
pub struct Values<'a> {
    pub values: &'a [pg_sys::Datum],
    pub nulls: &'a [bool],
}

/// Where expressions live that are kept for the session.
pub fn for_the_session() -> pg_sys::MemoryContext {
    // SAFETY: set when the process starts.
    unsafe { pg_sys::TopMemoryContext }
}

/// Where expressions live that are used in this call only.
pub fn for_this_call() -> pg_sys::MemoryContext {
    // SAFETY: always set in a backend.
    unsafe { pg_sys::CurrentMemoryContext }
}

impl Projector {
    /// Compiles what rollups with the same filter evaluate, in a memory context of its own, under `parent`. Execute
    /// rights on the functions are checked here, as those of the role in force.
    pub fn compile(definitions: &[Definition], parent: pg_sys::MemoryContext) -> (Self, Vec<Columns>) {
        let mut expressions: Vec<Expression> = Vec::new();
        let mut place = |expression: Expression| match expressions.iter().position(|known| *known == expression) {
            Some(place) => place,
            None => {
                expressions.push(expression);
                expressions.len() - 1
            }
        };
        let columns = definitions
            .iter()
            .map(|definition| Columns {
                keys: definition.keys.iter().map(|key| place(key.expression)).collect(),
                arguments: definition.arguments.iter().map(|argument| place(argument.expression)).collect(),
            })
            .collect();
        (Self::new(&definitions[0], &expressions, parent), columns)
    }

    /// `definition`: whose filter it is, and whose row.
    fn new(definition: &Definition, expressions: &[Expression], parent: pg_sys::MemoryContext) -> Self {
        // SAFETY: all that is allocated here lives in `context`, which Drop deletes; expressions are copied into it by
        // the planner before they are compiled.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                parent,
                c"pulso expressions".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(context);
            let plan = |expression: Expression| pg_sys::expression_planner(definition.over_row(expression).cast());
            let econtext = pg_sys::CreateStandaloneExprContext();
            let filter = definition.filter.map_or(std::ptr::null_mut(), |filter| {
                pg_sys::ExecInitQual(pg_sys::make_ands_implicit(plan(filter)), std::ptr::null_mut())
            });
            let mut targets = PgList::<pg_sys::TargetEntry>::new();
            for expression in expressions.iter().copied() {
                let number = targets.len() as i16 + 1;
                targets.push(pg_sys::makeTargetEntry(plan(expression), number, std::ptr::null_mut(), false));
            }
            let width = targets.len();
            let targets = targets.into_pg();
            let slot = pg_sys::MakeSingleTupleTableSlot(pg_sys::ExecTypeFromTL(targets), &pg_sys::TTSOpsVirtual);
            let projection =
                pg_sys::ExecBuildProjectionInfo(targets, econtext, slot, std::ptr::null_mut(), std::ptr::null_mut());
            pg_sys::MemoryContextSwitchTo(before);
            Self { context, econtext, filter, projection, slot, width }
        }
    }

    /// The row's values; `None` where the filter excludes it.
    ///
    /// `row` is a slot that holds a tuple: of the source's row type, or a joined row.
    pub fn evaluate(&mut self, row: *mut pg_sys::TupleTableSlot) -> Option<Values<'_>> {
        // SAFETY: the compiled expressions and their slot live as long as self. Results are in the per-tuple context,
        // reset when the next row is evaluated, which the borrow of self forbids while they are in use. The closure
        // has nothing to drop, so an error may leave it by longjmp.
        unsafe {
            let (econtext, filter, projection) = (self.econtext, self.filter, self.projection);
            let selected = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                (*econtext).ecxt_scantuple = row;
                pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
                let before = pg_sys::CurrentMemoryContext;
                pg_sys::CurrentMemoryContext = (*econtext).ecxt_per_tuple_memory;
                let selected = filter.is_null() || {
                    let result = evaluate(filter, econtext);
                    result.value() != 0
                };
                if selected {
                    evaluate(&mut (*projection).pi_state, econtext);
                }
                pg_sys::CurrentMemoryContext = before;
                selected
            });
            selected.then(|| Values {
                values: std::slice::from_raw_parts((*self.slot).tts_values, self.width),
                nulls: std::slice::from_raw_parts((*self.slot).tts_isnull, self.width),
            })
        }
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        // SAFETY: contexts made by `compile`; callbacks of the expression context run first. The econtext's own memory
        // is a child of the context that was current when it was made, which is `context`.
        unsafe {
            pg_sys::FreeExprContext(self.econtext, false);
            pg_sys::MemoryContextDelete(self.context);
        }
    }
}

/// As the executor's ExecEvalExpr, which is an inline function.
unsafe fn evaluate(state: *mut pg_sys::ExprState, econtext: *mut pg_sys::ExprContext) -> pg_sys::Datum {
    let mut null = false;
    // SAFETY: a compiled state has its function.
    unsafe {
        match (*state).evalfunc {
            Some(function) => function(state, econtext, &mut null),
            None => pg_sys::Datum::null(),
        }
    }
}

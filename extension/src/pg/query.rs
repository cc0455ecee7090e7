//! A rollup's query as Postgres has parsed it: what is refused, and the parts that are kept.

mod aggregate;
mod from;

use crate::error::Refusal;
pub use from::{Edge, Pair, Scope, Table};
use pgrx::{PgList, pg_sys};
use std::ffi::{CStr, CString, c_void};

/// An expression over the columns of the source, alive as long as the memory context it was read in.
#[derive(Debug, Clone, Copy)]
pub struct Expression(*mut pg_sys::Node);

impl PartialEq for Expression {
    /// The same expression, wherever it is written.
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: both are live expressions.
        unsafe { pg_sys::equal(self.0.cast(), other.0.cast()) }
    }
}

/// What is kept of an aggregate's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parts {
    /// The number of non-NULL values.
    Present,
    /// That, and the sum of integers of up to 32 bits.
    SmallSum,
    /// That, and the sum of 64-bit integers, which may need more than 64 bits.
    BigSum,
    /// That, and the sum of numerics that are finite whatever the row holds.
    FiniteSum,
    /// That, and the sum of the finite values, and the number of NaN, Infinity and -Infinity.
    NumericSum,
}

/// A grouping expression.
pub struct Key {
    pub expression: Expression,
    pub type_oid: pg_sys::Oid,
    /// The type as DDL writes it, with its modifier and collation.
    pub type_sql: String,
}

/// An aggregate's argument, the aggregate's FILTER included; shared by all aggregates of the same argument.
pub struct Argument {
    pub expression: Expression,
    pub parts: Parts,
    /// Never NULL, so that its values are as many as the rows.
    pub always_present: bool,
}

/// What a column of the view shows.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    Key(usize),
    Rows,
    Present(usize),
    Sum(usize),
    Average(usize),
    /// By the sums of an argument and of its squares; `root`: the standard deviation.
    Variance {
        sum: usize,
        squares: usize,
        sample: bool,
        root: bool,
    },
    /// By the number of values, and of those that are true.
    Every(usize, usize),
    Any(usize, usize),
    /// The number of different values.
    Distinct(usize),
    Least(usize),
    Greatest(usize),
    Percentile(usize, Percentile),
}

/// The value at a fraction of the values in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    pub fraction: f64,
    /// Between the two nearest values, rather than one of them.
    pub continuous: bool,
    pub descending: bool,
}

/// A column of the view.
pub struct Output {
    pub name: String,
    pub shown: Shown,
}

/// A query that can be maintained.
pub struct Definition {
    /// The table whose rows are counted, then those that are joined to it.
    pub tables: Vec<Table>,
    /// How its expressions are written.
    pub source: Scope,
    pub filter: Option<Expression>,
    pub keys: Vec<Key>,
    pub arguments: Vec<Argument>,
    /// Expressions whose values are counted one by one, each in a rollup of its own.
    pub companions: Vec<Key>,
    pub outputs: Vec<Output>,
}

impl Expression {
    pub fn node(self) -> *mut pg_sys::Node {
        self.0
    }

    pub fn type_oid(self) -> pg_sys::Oid {
        // SAFETY: a live expression.
        unsafe { pg_sys::exprType(self.0) }
    }

    /// SQL for it.
    pub fn sql(self, source: Scope) -> String {
        source.sql(self)
    }

    fn is_mutable(self) -> bool {
        // SAFETY: a live expression.
        unsafe { pg_sys::contain_mutable_functions(self.0) }
    }

    /// The smallest part that is not immutable.
    fn culprit(self) -> Self {
        first_child(self, Self::is_mutable).map_or(self, Self::culprit)
    }

    /// Whether a whole row or a system column is read anywhere in it.
    fn reads_more_than_columns(self) -> bool {
        // SAFETY: a live expression; the tag tells its type.
        let is_system =
            unsafe { (*self.0).type_ == pg_sys::NodeTag::T_Var && (*self.0.cast::<pg_sys::Var>()).varattno <= 0 };
        is_system || first_child(self, Self::reads_more_than_columns).is_some()
    }

    /// Whether it is certain to be neither NaN nor infinite: JSON has no such numbers, and sums, differences and
    /// products of finite numerics are finite or an error.
    fn is_finite(self) -> bool {
        use pg_sys::NodeTag::{T_CaseExpr, T_CoalesceExpr, T_Const, T_FuncExpr, T_OpExpr};
        if matches!(self.type_oid(), pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID) {
            return true;
        }
        if self.type_oid() != pg_sys::NUMERICOID {
            return false;
        }
        let all_finite = |list: *mut pg_sys::List| {
            // SAFETY: a list of live expressions.
            unsafe { PgList::<pg_sys::Node>::from_pg(list).iter_ptr().all(|node| Self(node).is_finite()) }
        };
        // SAFETY: a live expression, cast by its tag; constants of type numeric that are not NULL are varlenas.
        unsafe {
            match (*self.0).type_ {
                T_Const => {
                    let constant = self.0.cast::<pg_sys::Const>();
                    (*constant).constisnull || super::value::is_finite((*constant).constvalue)
                }
                T_FuncExpr => {
                    let call = self.0.cast::<pg_sys::FuncExpr>();
                    is_ours((*call).funcid) || (keeps_finite((*call).funcid) && all_finite((*call).args))
                }
                T_OpExpr => {
                    let operation = self.0.cast::<pg_sys::OpExpr>();
                    keeps_finite(pg_sys::get_opcode((*operation).opno)) && all_finite((*operation).args)
                }
                T_CoalesceExpr => all_finite((*self.0.cast::<pg_sys::CoalesceExpr>()).args),
                T_CaseExpr => {
                    let case = self.0.cast::<pg_sys::CaseExpr>();
                    let branches = PgList::<pg_sys::CaseWhen>::from_pg((*case).args);
                    Self((*case).defresult.cast()).is_finite()
                        && branches.iter_ptr().all(|branch| Self((*branch).result.cast()).is_finite())
                }
                _ => false,
            }
        }
    }

    /// Whether it is certain not to be NULL, by its form alone: a column's NOT NULL may be dropped.
    fn is_never_null(self) -> bool {
        use pg_sys::NodeTag::{T_CaseExpr, T_CoalesceExpr, T_Const, T_FuncExpr, T_OpExpr};
        let never = |list: *mut pg_sys::List| {
            // SAFETY: a list of live expressions.
            unsafe { PgList::<pg_sys::Node>::from_pg(list) }
                .iter_ptr()
                .map(|node| Self(node).is_never_null())
                .collect::<Vec<_>>()
        };
        let all = |list| never(list).into_iter().all(|yes| yes);
        // SAFETY: a live expression, cast by its tag.
        unsafe {
            match (*self.0).type_ {
                T_Const => !(*self.0.cast::<pg_sys::Const>()).constisnull,
                T_CoalesceExpr => never((*self.0.cast::<pg_sys::CoalesceExpr>()).args).contains(&true),
                T_FuncExpr => {
                    let call = self.0.cast::<pg_sys::FuncExpr>();
                    keeps_finite((*call).funcid) && all((*call).args)
                }
                T_OpExpr => {
                    let operation = self.0.cast::<pg_sys::OpExpr>();
                    keeps_finite(pg_sys::get_opcode((*operation).opno)) && all((*operation).args)
                }
                T_CaseExpr => {
                    let case = self.0.cast::<pg_sys::CaseExpr>();
                    let branches = PgList::<pg_sys::CaseWhen>::from_pg((*case).args);
                    Self((*case).defresult.cast()).is_never_null()
                        && branches.iter_ptr().all(|branch| Self((*branch).result.cast()).is_never_null())
                }
                _ => false,
            }
        }
    }

    /// Whether all its functions are Postgres's own: compiled code that keeps nothing beyond a call.
    fn is_built_in(self) -> bool {
        #[pgrx::pg_guard]
        unsafe extern "C-unwind" fn is_foreign(function: pg_sys::Oid, _context: *mut c_void) -> bool {
            function.to_u32() >= pg_sys::FirstNormalObjectId && !is_ours(function)
        }
        // SAFETY: a live expression.
        let foreign = unsafe { pg_sys::check_functions_in_node(self.0, Some(is_foreign), std::ptr::null_mut()) };
        !foreign && first_child(self, |child| !child.is_built_in()).is_none()
    }
}

/// Whether a function is one of this library's own values, such as `pulso.jsonb_numeric`.
fn is_ours(function: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups; an unknown function gives a NULL name.
    unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null()
            && CStr::from_ptr(name) == c"jsonb_numeric"
            && pg_sys::get_func_namespace(function) == pg_sys::get_namespace_oid(c"pulso".as_ptr(), true)
    }
}

/// Whether a function of Postgres's own gives a finite numeric that is not NULL, or an error, for such arguments.
fn keeps_finite(function: pg_sys::Oid) -> bool {
    const NAMES: [&CStr; 8] = [
        c"numeric_add",
        c"numeric_sub",
        c"numeric_mul",
        c"numeric_uminus",
        c"numeric_abs",
        c"numeric",
        c"round",
        c"abs",
    ];
    // SAFETY: a syscache look-up; an unknown function gives a NULL name.
    unsafe {
        let name = pg_sys::get_func_name(function);
        function.to_u32() < pg_sys::FirstNormalObjectId && !name.is_null() && NAMES.contains(&CStr::from_ptr(name))
    }
}

/// The first direct child of an expression for which `test` holds.
fn first_child(parent: Expression, test: fn(Expression) -> bool) -> Option<Expression> {
    struct Search {
        test: fn(Expression) -> bool,
        found: *mut pg_sys::Node,
    }
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
        if node.is_null() {
            return false;
        }
        // SAFETY: `context` is the Search of the frame below.
        let search = unsafe { &mut *context.cast::<Search>() };
        // SAFETY: a live node; lists are walked into, their members are the children.
        if unsafe { (*node).type_ } == pg_sys::NodeTag::T_List {
            return unsafe { pg_sys::expression_tree_walker(node, Some(visit), context) };
        }
        if (search.test)(Expression(node)) {
            search.found = node;
        }
        !search.found.is_null()
    }
    let mut search = Search { test, found: std::ptr::null_mut() };
    // SAFETY: a live expression; the walker calls `visit` for each direct child and stops when it returns true.
    unsafe { pg_sys::expression_tree_walker(parent.0, Some(visit), (&raw mut search).cast()) };
    (!search.found.is_null()).then_some(Expression(search.found))
}

/// Type, modifier and collation of a column.
pub fn column_type(relation: pg_sys::Oid, column: i16) -> (pg_sys::Oid, i32, pg_sys::Oid) {
    let (mut type_oid, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: out-parameters of this frame; a missing column raises an error.
    unsafe { pg_sys::get_atttypetypmodcoll(relation, column, &mut type_oid, &mut modifier, &mut collation) };
    (type_oid, modifier, collation)
}

pub fn column_name(relation: pg_sys::Oid, column: i16) -> String {
    // SAFETY: a missing column raises an error; the name is palloc'd.
    unsafe { CStr::from_ptr(pg_sys::get_attname(relation, column, false)).to_string_lossy().into_owned() }
}

/// An operator as SQL writes it, qualified.
pub fn operator_name(operator: pg_sys::Oid) -> String {
    super::session::one(
        "select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)
           from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace where o.oid = $1",
        &[super::session::arg(operator)],
    )
    .unwrap_or_else(|| pgrx::error!("pulso: no operator {operator}"))
}

/// Calls `f` with each variable of an expression, or of a list of expressions.
fn each_var(node: *mut pg_sys::Node, f: &mut dyn FnMut(&mut pg_sys::Var)) {
    struct Visit<'a>(&'a mut dyn FnMut(&mut pg_sys::Var));
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
        // SAFETY: NULL or a live node, cast by its tag; `context` is the Visit of the frame below.
        unsafe {
            if node.is_null() {
                return false;
            }
            if (*node).type_ == pg_sys::NodeTag::T_Var {
                ((*context.cast::<Visit<'_>>()).0)(&mut *node.cast::<pg_sys::Var>());
                return false;
            }
            pg_sys::expression_tree_walker(node, Some(visit), context)
        }
    }
    let mut context = Visit(f);
    // SAFETY: a live tree or NULL.
    unsafe { visit(node, (&raw mut context).cast()) };
}

/// Refuses a text that is not exactly one SELECT; gives it without what follows the statement.
pub fn single_select(text: &str) -> Result<String, Refusal> {
    let trimmed = text.trim().trim_end_matches(';');
    let c_text = CString::new(trimmed).map_err(|_| Refusal::NotASelect)?;
    // SAFETY: a NUL-terminated text; a syntax error is raised by the parser itself.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            c_text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let raw = match (statements.len(), statements.get_ptr(0)) {
            (1, Some(raw)) => raw,
            _ => return Err(Refusal::NotASelect),
        };
        let statement = (*raw).stmt;
        if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(Refusal::NotASelect);
        }
        let select = statement.cast::<pg_sys::SelectStmt>();
        if !(*select).intoClause.is_null() || !(*select).valuesLists.is_null() {
            return Err(Refusal::NotASelect);
        }
        refuse_temporary(raw, &c_text)?;
    }
    Ok(trimmed.to_owned())
}

/// Refuses a query over a temporary table, of which Postgres would make a temporary view.
unsafe fn refuse_temporary(statement: *mut pg_sys::RawStmt, text: &CStr) -> Result<(), Refusal> {
    // SAFETY: a statement just parsed from the text; analysis raises errors of its own.
    unsafe {
        let query =
            pg_sys::parse_analyze_fixedparams(statement, text.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut());
        for entry in PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable).iter_ptr() {
            let is_table = (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION;
            if is_table && pg_sys::get_rel_persistence((*entry).relid) as u8 == pg_sys::RELPERSISTENCE_TEMP {
                let name = CStr::from_ptr(pg_sys::get_rel_name((*entry).relid)).to_string_lossy();
                return Err(Refusal::Source {
                    what: format!("temporary table {name}"),
                    hint: "Other sessions could not read it; use a permanent table.",
                });
            }
        }
    }
    Ok(())
}

/// Reads the query of a view; refuses what cannot be maintained, naming the first thing found.
pub fn read(view: pg_sys::Oid) -> Result<Definition, Refusal> {
    // SAFETY: the view is held open while its query is copied into the current memory context.
    let query = unsafe {
        let relation = pg_sys::table_open(view, pg_sys::AccessShareLock as i32);
        let query = pg_sys::copyObjectImpl(pg_sys::get_view_query(relation).cast()).cast::<pg_sys::Query>();
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        query
    };
    // SAFETY: the copy above lives as long as the current memory context, which is that of all that is read from it.
    unsafe {
        refuse_constructs(&*query)?;
        #[cfg(feature = "pg18")]
        {
            (*query).targetList =
                pg_sys::flatten_group_exprs(std::ptr::null_mut(), query, (*query).targetList.cast()).cast();
        }
        let from = from::read(query)?;
        define(&*query, from)
    }
}

fn refuse_constructs(query: &pg_sys::Query) -> Result<(), Refusal> {
    let refused: [(bool, &str, &str); 12] = [
        (!query.cteList.is_null(), "a WITH clause", "Write the query over the table itself."),
        (
            !query.setOperations.is_null(),
            "UNION, INTERSECT or EXCEPT",
            "Make a rollup of each part and combine them in a view.",
        ),
        (!query.distinctClause.is_null(), "DISTINCT", "GROUP BY gives each group once already."),
        (query.hasWindowFuncs, "window functions", "Use them in a view over the rollup."),
        (
            !query.groupingSets.is_null(),
            "GROUPING SETS, ROLLUP or CUBE",
            "Make a rollup of the finest grouping and group further in a view over it.",
        ),
        (!query.havingQual.is_null(), "HAVING", "Filter in the query that reads the rollup."),
        (!query.sortClause.is_null(), "ORDER BY", "Order in the query that reads the rollup."),
        (
            !query.limitCount.is_null() || !query.limitOffset.is_null(),
            "LIMIT or OFFSET",
            "Limit in the query that reads the rollup.",
        ),
        (!query.rowMarks.is_null(), "FOR UPDATE or FOR SHARE", "Leave it out: a rollup takes the locks that it needs."),
        (query.hasTargetSRFs, "a set-returning function", "A row of the table must count in exactly one group."),
        (query.hasSubLinks, "a subquery", "Only the columns of the table itself can be used."),
        (!query.hasAggs, "no aggregate", "Select at least one, such as count(*)."),
    ];
    match refused.into_iter().find(|(found, ..)| *found) {
        Some((_, construct, hint)) => Err(Refusal::Construct { construct, hint }),
        None => Ok(()),
    }
}

unsafe fn define(query: &pg_sys::Query, from: from::From) -> Result<Definition, Refusal> {
    // SAFETY: the caller's query is whole and lives in the current memory context.
    unsafe {
        let source = from.scope;
        let mut definition = Definition {
            tables: from.tables,
            source,
            filter: check(from.filter, source)?,
            keys: Vec::new(),
            arguments: Vec::new(),
            companions: Vec::new(),
            outputs: Vec::new(),
        };
        let targets = PgList::<pg_sys::TargetEntry>::from_pg(query.targetList);
        let mut references = Vec::new();
        for clause in PgList::<pg_sys::SortGroupClause>::from_pg(query.groupClause).iter_ptr() {
            let Some(target) = targets.iter_ptr().find(|t| (**t).ressortgroupref == (*clause).tleSortGroupRef) else {
                continue;
            };
            let expression = Expression((*target).expr.cast());
            references.push((*clause).tleSortGroupRef);
            definition.keys.push(key(expression, (*clause).sortop, source)?);
        }
        for target in targets.iter_ptr().filter(|target| !(**target).resjunk) {
            let name = CStr::from_ptr((*target).resname).to_string_lossy().into_owned();
            let expression = Expression((*target).expr.cast());
            let shown = if let Some(key) = references.iter().position(|r| *r == (*target).ressortgroupref) {
                Shown::Key(key)
            } else if (*expression.0).type_ == pg_sys::NodeTag::T_Aggref {
                aggregate::read(&*expression.0.cast::<pg_sys::Aggref>(), &mut definition)?
            } else {
                return Err(Refusal::Output { expression: expression.sql(source) });
            };
            definition.outputs.push(Output { name, shown });
        }
        definition.lay_out();
        Ok(definition)
    }
}

/// Passes an expression on if it can be evaluated for a row alone, at any time, with the same result.
fn check(expression: Expression, source: Scope) -> Result<Option<Expression>, Refusal> {
    if expression.0.is_null() {
        return Ok(None);
    }
    if expression.is_mutable() {
        return Err(Refusal::Mutable { expression: expression.culprit().sql(source) });
    }
    if expression.reads_more_than_columns() {
        return Err(Refusal::Construct {
            construct: "a whole row or a system column",
            hint: "Name the columns that are needed.",
        });
    }
    Ok(Some(expression))
}

fn key(expression: Expression, order: pg_sys::Oid, source: Scope) -> Result<Key, Refusal> {
    check(expression, source)?;
    if order == pg_sys::InvalidOid {
        return Err(Refusal::Key { expression: expression.sql(source), why: "its type has no order" });
    }
    let type_oid = expression.type_oid();
    // SAFETY: a live expression; the name is palloc'd.
    let (mut type_sql, collation) = unsafe {
        let modifier = pg_sys::exprTypmod(expression.0);
        let flags = (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as u16;
        let name = pg_sys::format_type_extended(type_oid, modifier, flags);
        (CStr::from_ptr(name).to_string_lossy().into_owned(), pg_sys::exprCollation(expression.0))
    };
    if collation != pg_sys::InvalidOid {
        type_sql.push_str(&format!(" collate {}", collation_sql(collation)));
    }
    Ok(Key { expression, type_oid, type_sql })
}

fn collation_sql(collation: pg_sys::Oid) -> String {
    super::session::one(
        "select pg_catalog.format('%I.%I', n.nspname, c.collname)
           from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace where c.oid = $1",
        &[super::session::arg(collation)],
    )
    .unwrap_or_else(|| "pg_catalog.\"default\"".to_owned())
}

impl Definition {
    /// Whether it calls functions of Postgres and Pulso only.
    pub fn is_built_in(&self) -> bool {
        self.expressions().all(Expression::is_built_in)
    }

    /// The table whose rows are counted.
    pub fn fact(&self) -> pg_sys::Oid {
        self.tables[0].relation
    }

    pub fn is_joined(&self) -> bool {
        self.tables.len() > 1
    }

    /// Notes which columns of each table are needed, and their places in a joined row.
    fn lay_out(&mut self) {
        let mut needed: Vec<(usize, i16)> = Vec::new();
        for expression in self.expressions() {
            each_var(expression.0, &mut |var| needed.push((var.varno as usize - 1, var.varattno)));
        }
        for edge in self.tables.iter().filter_map(|table| table.edge.as_ref()) {
            needed.extend(edge.pairs.iter().map(|pair| (edge.from, pair.from_column)));
        }
        needed.sort_unstable();
        needed.dedup();
        let mut offset = 0;
        for (number, table) in self.tables.iter_mut().enumerate() {
            table.columns = needed.iter().filter(|(table, _)| *table == number).map(|(_, column)| *column).collect();
            table.offset = offset;
            offset += table.columns.len();
        }
    }

    /// A copy of an expression over the row that is evaluated: the table's own, or where tables are joined, the
    /// columns needed of each, one table after the other.
    pub fn over_row(&self, expression: Expression) -> *mut pg_sys::Node {
        // SAFETY: a live expression.
        let copy = unsafe { pg_sys::copyObjectImpl(expression.0.cast()) }.cast::<pg_sys::Node>();
        if self.is_joined() {
            each_var(copy, &mut |var| {
                let place = self.place(var.varno as usize - 1, var.varattno) as i16 + 1;
                (var.varno, var.varattno) = (1, place);
                (var.varnosyn, var.varattnosyn) = (1, place);
            });
        }
        copy
    }

    /// The place of a column in a joined row.
    pub fn place(&self, table: usize, column: i16) -> usize {
        let Table { columns, offset, .. } = &self.tables[table];
        offset + columns.binary_search(&column).unwrap_or_default()
    }

    /// Everything that is evaluated for a row.
    fn expressions(&self) -> impl Iterator<Item = Expression> {
        let keys = self.keys.iter().map(|key| key.expression);
        self.filter.into_iter().chain(keys).chain(self.arguments.iter().map(|argument| argument.expression))
    }
}

/// A zeroed node of the current memory context. T begins with its tag, as every node does.
unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: the allocation is as large as T; the tag is its first field.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<pg_sys::Node>();
        (*node).type_ = tag;
        node.cast()
    }
}

//! The FROM of a rollup's query: the table whose rows are counted, and the tables that are joined to it.
//!
//! Each joined table is reached by a foreign key from a table reached before it, so that a row of the first table has
//! exactly one row of each, or (where a key is NULL) none and does not count.

use super::{Expression, each_var, node};
use crate::error::Refusal;
use crate::pg::session::{self, arg};
use pgrx::{PgList, pg_sys};
use std::ffi::{CStr, CString};

/// How expressions are written as SQL; alive as long as they are.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// A statement of nothing but the tables, and their names in it.
    statement: *mut pg_sys::PlannedStmt,
    names: *mut pg_sys::List,
    prefix: bool,
}

/// A table of the query.
pub struct Table {
    pub relation: pg_sys::Oid,
    /// Its name in the query.
    pub alias: String,
    /// How it is reached; `None` for the table whose rows are counted.
    pub edge: Option<Edge>,
    /// The columns that the query or the next join needs, ascending.
    pub columns: Vec<i16>,
    /// Where they begin in a joined row.
    pub offset: usize,
}

/// A join by a foreign key of a table that comes before.
pub struct Edge {
    pub from: usize,
    pub pairs: Vec<Pair>,
    pub constraint: pg_sys::Oid,
    /// The unique index that the foreign key rests on.
    pub index: pg_sys::Oid,
}

/// `table.column operator from.from_column`
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub column: i16,
    pub from_column: i16,
    pub operator: pg_sys::Oid,
}

/// FROM and WHERE as they were read.
pub struct From {
    pub tables: Vec<Table>,
    /// What is not needed to reach a table: filters.
    pub filter: Expression,
    pub scope: Scope,
}

impl Scope {
    pub fn sql(self, expression: Expression) -> String {
        // SAFETY: a live expression over the tables of the statement; the text is palloc'd. The context is made here
        // because it locks the tables: whoever only folds must not wait for them.
        unsafe {
            let context = pg_sys::deparse_context_for_plan_tree(self.statement, self.names);
            let text = pg_sys::deparse_expression(expression.node(), context, self.prefix, false);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

/// A table in FROM before its place is known.
struct Item {
    place: i32,
    entry: *mut pg_sys::RangeTblEntry,
    relation: pg_sys::Oid,
}

/// `left = right` of two tables, by their places in the range table.
struct Equality {
    conjunct: usize,
    operator: pg_sys::Oid,
    left: (i32, i16),
    right: (i32, i16),
}

/// A foreign key as the catalog has it.
struct ForeignKey {
    constraint: pg_sys::Oid,
    referenced: pg_sys::Oid,
    pairs: Vec<Pair>,
}

/// Reads FROM and WHERE, and gives each table its number: afterwards the variables of the query's expressions are
/// numbered by it, from 1, the table whose rows are counted first.
///
/// # Safety
/// The query is whole, and lives in the current memory context.
pub unsafe fn read(query: *mut pg_sys::Query) -> Result<From, Refusal> {
    // SAFETY: as the caller's; nodes are cast by their tags.
    unsafe {
        let mut items = Vec::new();
        let mut conjuncts = Vec::new();
        let jointree = (*query).jointree;
        for item in PgList::<pg_sys::Node>::from_pg((*jointree).fromlist).iter_ptr() {
            collect(&*query, item, &mut items, &mut conjuncts)?;
        }
        if items.is_empty() {
            return Err(Refusal::Construct {
                construct: "no table",
                hint: "Write FROM and the table whose rows are counted.",
            });
        }
        if items.len() == 1 {
            conjuncts = vec![(*jointree).quals];
        } else {
            split((*jointree).quals, &mut conjuncts);
            (*query).targetList = flatten(query, (*query).targetList.cast()).cast();
            for conjunct in &mut conjuncts {
                *conjunct = flatten(query, *conjunct);
            }
        }
        let (order, edges) = tree(&items, &mut conjuncts)?;
        let number = |place: i32| {
            let number = order.iter().position(|item| items[*item].place == place).unwrap_or_default() + 1;
            number as i32
        };
        let mut renumber = |var: &mut pg_sys::Var| {
            var.varno = number(var.varno);
            (var.varnosyn, var.varattnosyn) = (var.varno as _, var.varattno);
        };
        each_var((*query).targetList.cast(), &mut renumber);
        let mut kept = PgList::<pg_sys::Node>::new();
        for conjunct in conjuncts.into_iter().filter(|conjunct| !conjunct.is_null()) {
            each_var(conjunct, &mut renumber);
            kept.push(conjunct);
        }
        let filter = match kept.len() {
            0 => std::ptr::null_mut(),
            _ => pg_sys::make_ands_explicit(kept.into_pg()).cast(),
        };
        let tables: Vec<Table> = order
            .iter()
            .zip(edges)
            .map(|(item, edge)| Table {
                relation: items[*item].relation,
                alias: alias(&items, *item),
                edge,
                columns: Vec::new(),
                offset: 0,
            })
            .collect();
        let entries: Vec<_> = order.iter().map(|item| items[*item].entry).collect();
        let scope = scope(&entries, &tables);
        Ok(From { tables, filter: Expression(filter), scope })
    }
}

/// The tables of an item of FROM, and the conditions of its joins.
unsafe fn collect(
    query: &pg_sys::Query,
    item: *mut pg_sys::Node,
    items: &mut Vec<Item>,
    conjuncts: &mut Vec<*mut pg_sys::Node>,
) -> Result<(), Refusal> {
    // SAFETY: the caller's query is whole; nodes are cast by their tags.
    unsafe {
        if (*item).type_ == pg_sys::NodeTag::T_JoinExpr {
            let join = item.cast::<pg_sys::JoinExpr>();
            if (*join).jointype != pg_sys::JoinType::JOIN_INNER {
                return Err(Refusal::Construct {
                    construct: "an outer join",
                    hint: "Use an inner join, or roll up the table alone and join in a view over the rollup.",
                });
            }
            collect(query, (*join).larg, items, conjuncts)?;
            collect(query, (*join).rarg, items, conjuncts)?;
            split((*join).quals, conjuncts);
            return Ok(());
        }
        let place = match (*item).type_ {
            pg_sys::NodeTag::T_RangeTblRef => (*item.cast::<pg_sys::RangeTblRef>()).rtindex,
            _ => return Err(Refusal::NotASelect),
        };
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
        let Some(entry) = entries.get_ptr(place as usize - 1) else {
            return Err(Refusal::NotASelect);
        };
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return Err(Refusal::Construct {
                construct: "anything but a table in FROM",
                hint: "Name the table itself: no subquery, function or VALUES.",
            });
        }
        if !(*entry).tablesample.is_null() {
            return Err(Refusal::Construct { construct: "TABLESAMPLE", hint: "A rollup counts every row." });
        }
        if items.iter().any(|other| other.relation == (*entry).relid) {
            return Err(Refusal::Construct {
                construct: "a table joined to itself",
                hint: "Join the second time in a view over the rollup.",
            });
        }
        items.push(Item { place, entry, relation: (*entry).relid });
        Ok(())
    }
}

/// The parts of a condition that must all hold.
unsafe fn split(condition: *mut pg_sys::Node, conjuncts: &mut Vec<*mut pg_sys::Node>) {
    // SAFETY: a live expression or NULL; cast by its tag.
    unsafe {
        if condition.is_null() {
            return;
        }
        if (*condition).type_ == pg_sys::NodeTag::T_BoolExpr {
            let condition = condition.cast::<pg_sys::BoolExpr>();
            if (*condition).boolop == pg_sys::BoolExprType::AND_EXPR {
                for part in PgList::<pg_sys::Node>::from_pg((*condition).args).iter_ptr() {
                    split(part, conjuncts);
                }
                return;
            }
        }
        conjuncts.push(condition);
    }
}

/// Columns of a join by its own name become those of the tables.
unsafe fn flatten(query: *mut pg_sys::Query, node: *mut pg_sys::Node) -> *mut pg_sys::Node {
    // SAFETY: an expression, or a list of such, of the query.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::flatten_join_alias_vars(query, node);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::flatten_join_alias_vars(std::ptr::null_mut(), query, node);
    }
}

/// Tables as they are reached from the first.
struct Tree {
    order: Vec<usize>,
    edges: Vec<Option<Edge>>,
    /// The conditions that say how.
    used: Vec<usize>,
}

/// The tables in an order in which each is reached from one before it, and how; the conditions used for that are
/// taken out of `conjuncts`.
unsafe fn tree(
    items: &[Item],
    conjuncts: &mut [*mut pg_sys::Node],
) -> Result<(Vec<usize>, Vec<Option<Edge>>), Refusal> {
    // SAFETY: live expressions.
    let equalities: Vec<Equality> =
        conjuncts.iter().enumerate().filter_map(|(i, conjunct)| unsafe { equality(i, *conjunct) }).collect();
    let keys: Vec<Vec<ForeignKey>> = if items.len() == 1 {
        vec![Vec::new()]
    } else {
        items.iter().map(|item| foreign_keys(item.relation)).collect()
    };
    let mut farthest: Option<Tree> = None;
    for fact in 0..items.len() {
        let (mut order, mut edges, mut used) = (vec![fact], vec![None], Vec::new());
        while let Some((item, edge, conditions)) = next(items, &keys, &equalities, &order) {
            order.push(item);
            edges.push(Some(edge));
            used.extend(conditions);
        }
        if farthest.as_ref().is_none_or(|best| best.order.len() < order.len()) {
            farthest = Some(Tree { order, edges, used });
        }
    }
    let Some(Tree { order, edges, used }) = farthest else { return Err(Refusal::NotASelect) };
    if let Some(missed) = (0..items.len()).find(|item| !order.contains(item)) {
        return Err(unreached(items, &keys, &equalities, missed));
    }
    for edge in edges.iter().flatten() {
        refuse_weak(edge.constraint, items[order[edge.from]].relation)?;
    }
    for conjunct in used {
        conjuncts[conjunct] = std::ptr::null_mut();
    }
    Ok((order, edges))
}

/// A table that a foreign key of one in `order` leads to, by conditions of the query.
fn next(
    items: &[Item],
    keys: &[Vec<ForeignKey>],
    equalities: &[Equality],
    order: &[usize],
) -> Option<(usize, Edge, Vec<usize>)> {
    for (from, source) in order.iter().enumerate() {
        for key in &keys[*source] {
            let Some(item) = items.iter().position(|item| item.relation == key.referenced) else { continue };
            if order.contains(&item) {
                continue;
            }
            if let Some(conditions) = conditions(&items[*source], &items[item], key, equalities) {
                let edge = Edge {
                    from,
                    pairs: key.pairs.clone(),
                    constraint: key.constraint,
                    index: index_of(key.constraint),
                };
                return Some((item, edge, conditions));
            }
        }
    }
    None
}

/// The conditions of the query that say what the foreign key says; `None` where one is missing.
fn conditions(from: &Item, to: &Item, key: &ForeignKey, equalities: &[Equality]) -> Option<Vec<usize>> {
    let condition_of = |pair: &Pair| {
        let (here, there) = ((from.place, pair.from_column), (to.place, pair.column));
        let found = equalities.iter().find(|equality| {
            // SAFETY: a syscache look-up.
            let commutator = unsafe { pg_sys::get_commutator(equality.operator) };
            (equality.left == there && equality.right == here && equality.operator == pair.operator)
                || (equality.left == here && equality.right == there && commutator == pair.operator)
        });
        found.map(|equality| equality.conjunct)
    };
    key.pairs.iter().map(condition_of).collect()
}

/// Why a table cannot be joined.
fn unreached(items: &[Item], keys: &[Vec<ForeignKey>], equalities: &[Equality], missed: usize) -> Refusal {
    let item = &items[missed];
    let joined = equalities.iter().any(|equality| equality.left.0 == item.place || equality.right.0 == item.place);
    let refers = keys.iter().flatten().any(|key| key.referenced == item.relation);
    let why = match (joined, refers) {
        (false, _) => "no condition says that a column of it equals a column of another table",
        (true, false) => "no foreign key of the other tables refers to it",
        (true, true) => "it is not joined by the columns of a foreign key",
    };
    Refusal::Join {
        table: session::qualified_name(item.relation),
        why: why.to_owned(),
        hint: "Join it by the columns of a foreign key, which guarantees that its row is there; \
               anything else can be joined in a view over the rollup.",
    }
}

/// Refuses a foreign key that does not hold at the end of each statement.
fn refuse_weak(constraint: pg_sys::Oid, table: pg_sys::Oid) -> Result<(), Refusal> {
    let fault: Option<String> = session::one(
        "select case when c.condeferrable then 'deferrable' when not c.convalidated then 'not validated' end
           from pg_catalog.pg_constraint c where c.oid = $1",
        &[arg(constraint)],
    );
    let Some(fault) = fault else { return Ok(()) };
    let name: Option<String> =
        session::one("select c.conname::text from pg_catalog.pg_constraint c where c.oid = $1", &[arg(constraint)]);
    let hint = match fault.as_str() {
        "deferrable" => "Make it immediate: alter table … alter constraint … not deferrable.",
        _ => "Validate it first: alter table … validate constraint ….",
    };
    let name = pgrx::spi::quote_identifier(name.unwrap_or_default());
    Err(Refusal::Join {
        table: session::qualified_name(table),
        why: format!("its foreign key {name} is {fault}"),
        hint,
    })
}

/// A condition that compares a column of one table with a column of another.
unsafe fn equality(conjunct: usize, condition: *mut pg_sys::Node) -> Option<Equality> {
    // SAFETY: a live expression or NULL; nodes are cast by their tags.
    unsafe {
        if condition.is_null() || (*condition).type_ != pg_sys::NodeTag::T_OpExpr {
            return None;
        }
        let operation = condition.cast::<pg_sys::OpExpr>();
        let args = PgList::<pg_sys::Node>::from_pg((*operation).args);
        let column = |side: usize| {
            let mut node = args.get_ptr(side)?;
            // What is stored as another type of the same representation (varchar as text) is compared as it is.
            while (*node).type_ == pg_sys::NodeTag::T_RelabelType {
                node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
            }
            let var = node.cast::<pg_sys::Var>();
            ((*node).type_ == pg_sys::NodeTag::T_Var).then(|| ((*var).varno, (*var).varattno))
        };
        let (left, right) = (column(0)?, column(1)?);
        (left.0 != right.0).then_some(Equality { conjunct, operator: (*operation).opno, left, right })
    }
}

/// The foreign keys of a table.
fn foreign_keys(table: pg_sys::Oid) -> Vec<ForeignKey> {
    // SAFETY: the table's description is held while its list is read; keys of the list have nkeys columns. Without a lock:
    // whoever only folds must not wait for the table, and whoever writes to it holds one.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return Vec::new();
        }
        let keys = PgList::<pg_sys::ForeignKeyCacheInfo>::from_pg(pg_sys::RelationGetFKeyList(relation));
        let found = keys
            .iter_ptr()
            .map(|key| {
                let pairs = (0..(*key).nkeys as usize).map(|i| Pair {
                    column: (*key).confkey[i],
                    from_column: (*key).conkey[i],
                    operator: (*key).conpfeqop[i],
                });
                ForeignKey { constraint: (*key).conoid, referenced: (*key).confrelid, pairs: pairs.collect() }
            })
            .collect();
        pg_sys::RelationClose(relation);
        found
    }
}

/// The unique index that a foreign key rests on.
fn index_of(constraint: pg_sys::Oid) -> pg_sys::Oid {
    session::one("select c.conindid from pg_catalog.pg_constraint c where c.oid = $1", &[arg(constraint)])
        .unwrap_or(pg_sys::InvalidOid)
}

/// The name of a table in the query, or one of its own where two tables of different schemas share it.
unsafe fn alias(items: &[Item], item: usize) -> String {
    // SAFETY: entries of the query have an eref with a name.
    let name = |item: &Item| unsafe { CStr::from_ptr((*(*item.entry).eref).aliasname).to_string_lossy().into_owned() };
    let own = name(&items[item]);
    let shared = items.iter().enumerate().any(|(other, entry)| other != item && name(entry) == own);
    if shared { format!("{own} {}", item + 1) } else { own }
}

unsafe fn scope(entries: &[*mut pg_sys::RangeTblEntry], tables: &[Table]) -> Scope {
    // SAFETY: nodes of the current memory context, which outlive the scope as the expressions do.
    unsafe {
        let mut names = std::ptr::null_mut();
        let mut range = PgList::<pg_sys::RangeTblEntry>::new();
        for (entry, table) in entries.iter().zip(tables) {
            let entry = pg_sys::copyObjectImpl((*entry).cast()).cast::<pg_sys::RangeTblEntry>();
            // Columns go by their own names, whatever the query calls them.
            (*entry).alias = std::ptr::null_mut();
            range.push(entry);
            let name = CString::new(table.alias.as_str()).unwrap_or_default();
            names = pg_sys::lappend(names, pg_sys::pstrdup(name.as_ptr()).cast());
        }
        let statement = node::<pg_sys::PlannedStmt>(pg_sys::NodeTag::T_PlannedStmt);
        (*statement).rtable = range.into_pg();
        Scope { statement, names, prefix: tables.len() > 1 }
    }
}

//! Heavyweight locks with tags that SQL's advisory locks cannot reach.
//!
//! SQL's advisory locks put 1 or 2 into the fourth field of the tag; these put other numbers there, so that
//! Postgres carries them through PREPARE TRANSACTION and crash recovery as it does advisory locks.

use pgrx::pg_sys;

/// What a lock stands for.
#[derive(Debug, Clone, Copy)]
pub enum Tag {
    /// A generation, shared by the transactions that put it on their deltas.
    Generation(i64),
    /// The right to fold one rollup, or to fill it.
    Folder(i32),
    /// Not a lock but a note, read in `pg_locks` by `pulso.progress`: a rollup is being filled, and how far the scan of
    /// its table has come, in blocks. It is seen at once and goes away with its transaction, however that ends.
    Progress(i32, u32),
}

/// The fourth field of the tags, also seen as `objsubid` in `pg_locks`.
pub const GENERATION_CLASS: u16 = 0x5047;
const FOLDER_CLASS: u16 = 0x5046;
const PROGRESS_CLASS: u16 = 0x5050;

fn locktag(tag: Tag) -> pg_sys::LOCKTAG {
    let (class, number) = match tag {
        Tag::Generation(generation) => (GENERATION_CLASS, generation as u64),
        Tag::Folder(rollup) => (FOLDER_CLASS, u64::from(rollup.unsigned_abs())),
        Tag::Progress(rollup, blocks) => (PROGRESS_CLASS, u64::from(rollup.unsigned_abs()) << 32 | u64::from(blocks)),
    };
    pg_sys::LOCKTAG {
        // SAFETY: a plain value of this backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (number >> 32) as u32,
        locktag_field3: number as u32,
        locktag_field4: class,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Runs `f` with locks belonging to the top transaction, so that ROLLBACK TO a savepoint does not release them.
fn under_top_transaction<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(pg_sys::ResourceOwner);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: puts back the owner that was current when `under_top_transaction` was entered.
            unsafe { pg_sys::CurrentResourceOwner = self.0 };
        }
    }
    // SAFETY: in a transaction, TopTransactionResourceOwner outlives this call.
    let _restore = unsafe {
        let restore = Restore(pg_sys::CurrentResourceOwner);
        pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
        restore
    };
    f()
}

/// Takes a share lock until the end of the top transaction, if that is possible at once.
pub fn try_share(tag: Tag) -> bool {
    try_lock(tag, pg_sys::ShareLock)
}

/// Gives back a share lock taken by [`try_share`].
pub fn release_share(tag: Tag) {
    release(tag, pg_sys::ShareLock);
}

/// Takes an exclusive lock until the end of the top transaction, if that is possible at once.
pub fn try_exclusive(tag: Tag) -> bool {
    try_lock(tag, pg_sys::ExclusiveLock)
}

/// Takes an exclusive lock until the end of the top transaction; waits for it.
pub fn exclusive(tag: Tag) {
    // SAFETY: a well-formed tag, in a transaction.
    under_top_transaction(|| unsafe {
        pg_sys::LockAcquire(&locktag(tag), pg_sys::ExclusiveLock as i32, false, false);
    });
}

/// Locks a table against being dropped until the transaction ends; `false` where it is gone, or about to be. Waits for
/// nobody.
pub fn keep_table(table: pg_sys::Oid) -> bool {
    // SAFETY: a lock by OID needs no open relation; a syscache look-up tells whether it is there once it is locked.
    unsafe {
        pg_sys::ConditionalLockRelationOid(table, pg_sys::AccessShareLock as i32) && pg_sys::get_rel_relkind(table) != 0
    }
}

/// Locks all of some relations until the transaction ends, none of which is an index; false where they were never free
/// together. Waits, as `lock_timeout` has it, for one at a time and with empty hands: with another in hand it would keep
/// those waiting for whom it waits. The one that was not free is the one to wait for next, as `std::lock` of C++ does it.
pub fn together(relations: &[(pg_sys::Oid, u32)]) -> bool {
    const ROUNDS: u32 = 20;
    let mut awaited = 0;
    for _ in 0..ROUNDS {
        let (first, mode) = relations[awaited];
        // SAFETY: a lock by OID needs no open relation; what is unlocked was locked here, under the same resource owner.
        unsafe { pg_sys::LockRelationOid(first, mode as i32) };
        let mut held = vec![(first, mode)];
        let busy =
            relations.iter().enumerate().filter(|(number, _)| *number != awaited).find(|(_, (relation, mode))| {
                // SAFETY: as above.
                let free = unsafe { pg_sys::ConditionalLockRelationOid(*relation, *mode as i32) };
                if free {
                    held.push((*relation, *mode));
                }
                !free
            });
        let Some((number, _)) = busy else { return true };
        awaited = number;
        // SAFETY: as above.
        held.iter().for_each(|(relation, mode)| unsafe { pg_sys::UnlockRelationOid(*relation, *mode as i32) });
    }
    false
}

/// The lock for changing how a table is stored, if nobody vacuums or changes it. Readers and writers do not meet it.
pub fn try_alter(table: pg_sys::Oid) -> bool {
    // SAFETY: a lock by OID needs no open relation; the caller has kept the table from being dropped.
    unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::ShareUpdateExclusiveLock as i32) }
}

/// The lock for giving a table another file, if nobody uses it at this moment.
pub fn try_rewrite(table: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::AccessExclusiveLock as i32) }
}

/// Whether another transaction holds the tag at this moment. Waits for nobody.
pub fn held_by_another(tag: Tag) -> bool {
    let free = try_exclusive(tag);
    if free {
        release(tag, pg_sys::ExclusiveLock);
    }
    !free
}

fn try_lock(tag: Tag, mode: u32) -> bool {
    // SAFETY: a well-formed tag, in a transaction.
    under_top_transaction(|| unsafe {
        pg_sys::LockAcquire(&locktag(tag), mode as i32, false, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    })
}

fn release(tag: Tag, mode: u32) {
    // SAFETY: as above; the lock was taken under the same owner.
    under_top_transaction(|| unsafe {
        pg_sys::LockRelease(&locktag(tag), mode as i32, false);
    });
}

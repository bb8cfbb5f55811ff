//! A disk whose power can be cut, and which can be full: a VFS of SQLite around the system's own, for tests alone.
//!
//! What is written goes to the file at once, and what stood there before is remembered until the file is synced. When the
//! power is cut nothing reaches the disk any more; then, with every connection gone, sectors that were not synced get back
//! what they held: all of them, those after some moment, or each by chance, as a disk leaves them that lost its power in
//! the middle of writing. Locks and shared memory are the system's.
// SQLite calls through C: every pointer below is one that it gave for this call, and outlives it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;

use crate::Chance;

/// The name to give to `SqliteConnectOptions::vfs`.
pub(super) const VFS: &str = "power";
const C_NAME: &CStr = c"power";
/// What a disk writes whole.
const SECTOR: usize = 512;

/// Whether the power is cut, and whether the disk is full, for all files of this process under [`VFS`].
static OFF: AtomicBool = AtomicBool::new(false);
static FULL: AtomicBool = AtomicBool::new(false);
static UNSYNCED: LazyLock<Mutex<HashMap<PathBuf, Vec<Undo>>>> = LazyLock::new(Mutex::default);

/// How many connections have each file open. One that closes after the power is back would copy its own idea of the log into
/// the books, and delete the log.
static OPENED: LazyLock<Mutex<HashMap<PathBuf, usize>>> = LazyLock::new(Mutex::default);
/// Connections are closed on threads of their own.
const CLOSED_WAIT: Duration = Duration::from_secs(60);

fn opened() -> MutexGuard<'static, HashMap<PathBuf, usize>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stood where something was written since the last sync.
struct Undo {
    offset: u64,
    before: Vec<u8>,
    /// How long the file was.
    size: u64,
}

fn unsynced() -> MutexGuard<'static, HashMap<PathBuf, Vec<Undo>>> {
    UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the VFS known to SQLite.
///
/// # Panics
/// Where SQLite does not take it.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        assert!(!real.is_null(), "SQLite has a VFS of the system");
        let mut ours = *real;
        ours.zName = C_NAME.as_ptr();
        ours.pNext = ptr::null_mut();
        ours.szOsFile += c_int::try_from(size_of::<File>()).expect("a small struct");
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        let done = ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 0);
        assert_eq!(done, ffi::SQLITE_OK, "SQLite takes another VFS");
    });
}

/// From here on nothing reaches the disk.
pub(super) fn cut() {
    OFF.store(true, Ordering::SeqCst);
}

/// From here on no file grows.
pub(super) fn fill(full: bool) {
    FULL.store(full, Ordering::SeqCst);
}

/// The power is back: files in `folder` hold what a disk would. Waits until every connection is closed. Gives how many writes
/// were not synced.
///
/// # Panics
/// Where a file cannot be written, or stays open.
pub(super) fn restore(folder: &Path, chance: &mut Chance) -> usize {
    let started = Instant::now();
    while opened().iter().any(|(path, open)| *open > 0 && path.starts_with(folder)) {
        assert!(started.elapsed() < CLOSED_WAIT, "a connection outlived its house: {:?}", opened());
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut count = 0;
    let mut all = unsynced();
    let paths: Vec<PathBuf> = all.keys().filter(|path| path.starts_with(folder)).cloned().collect();
    for path in paths {
        let undo = all.remove(&path).expect("it was listed");
        count += undo.len();
        take_back(&path, &undo, chance);
    }
    // Shared memory is no file of a disk.
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        if entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::remove_file(entry.path()).expect("it is there");
        }
    }
    OFF.store(false, Ordering::SeqCst);
    count
}

fn take_back(path: &Path, undo: &[Undo], chance: &mut Chance) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    // All that was not synced is gone, what came after some moment, or each sector by chance.
    let kept = match chance.within(0..3) {
        0 => 0,
        1 => usize::try_from(chance.within(0..undo.len() as u64 + 1)).expect("an index"),
        _ => undo.len(),
    };
    let torn = kept == undo.len();
    for Undo { offset, before, size } in
        undo.iter().enumerate().rev().filter(|(at, _)| torn || *at >= kept).map(|(_, undo)| undo)
    {
        for (at, sector) in before.chunks(SECTOR).enumerate() {
            if !torn || chance.within(0..2) == 0 {
                file.write_all_at(sector, offset + (at * SECTOR) as u64).expect("it can be written");
            }
        }
        if !torn {
            file.set_len(*size).expect("it can be cut");
        }
    }
}

/// A file of ours; the system's own lies behind it in the same memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// Box of the path; null for temporary files.
    path: *mut PathBuf,
}

unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe fn real_methods<'f>(file: *mut ffi::sqlite3_file) -> &'f ffi::sqlite3_io_methods {
    unsafe { &*(*real(file)).pMethods }
}

unsafe fn path_of<'f>(file: *mut ffi::sqlite3_file) -> Option<&'f PathBuf> {
    unsafe { (*file.cast::<File>()).path.as_ref() }
}

/// Calls what the system has for it.
macro_rules! pass {
    ($name:ident, $method:ident $(, $arg:ident: $kind:ty)*) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $arg: $kind)*) -> c_int {
            unsafe { real_methods(file).$method.expect("the system has it")(real(file) $(, $arg)*) }
        }
    };
}

pass!(read, xRead, into: *mut c_void, amount: c_int, offset: i64);
pass!(file_size, xFileSize, size: *mut i64);
pass!(lock, xLock, level: c_int);
pass!(unlock, xUnlock, level: c_int);
pass!(check_reserved, xCheckReservedLock, out: *mut c_int);
pass!(file_control, xFileControl, op: c_int, arg: *mut c_void);
pass!(sector_size, xSectorSize);
pass!(shm_map, xShmMap, page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void);
pass!(shm_lock, xShmLock, offset: c_int, n: c_int, flags: c_int);
pass!(shm_unmap, xShmUnmap, delete: c_int);

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    unsafe { real_methods(file).xShmBarrier.expect("the system has it")(real(file)) }
}

/// Nothing is promised: no write is whole, none in order, nothing outlives the power that was not synced.
unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    unsafe {
        let done = real_methods(file).xClose.expect("the system has it")(real(file));
        let path = (*file.cast::<File>()).path;
        if !path.is_null() {
            let path = Box::from_raw(path);
            if let Some(open) = opened().get_mut(&*path) {
                *open -= 1;
            }
        }
        done
    }
}

/// What stands at a place, as far as the file reaches.
unsafe fn remember(file: *mut ffi::sqlite3_file, offset: i64, amount: usize) {
    unsafe {
        let Some(path) = path_of(file) else { return };
        let mut size = 0;
        real_methods(file).xFileSize.expect("the system has it")(real(file), &raw mut size);
        let mut before = vec![0_u8; amount];
        let length = c_int::try_from(amount).expect("a write is small");
        // A short read fills up with zeros, as a hole does.
        real_methods(file).xRead.expect("the system has it")(real(file), before.as_mut_ptr().cast(), length, offset);
        let undo = Undo { offset: offset.unsigned_abs(), before, size: i64::unsigned_abs(size) };
        unsynced().entry(path.clone()).or_default().push(undo);
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, amount: c_int, offset: i64) -> c_int {
    unsafe {
        if OFF.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        if FULL.load(Ordering::SeqCst) {
            let mut size = 0;
            real_methods(file).xFileSize.expect("the system has it")(real(file), &raw mut size);
            if offset + i64::from(amount) > size {
                return ffi::SQLITE_FULL;
            }
        }
        remember(file, offset, usize::try_from(amount).expect("not negative"));
        real_methods(file).xWrite.expect("the system has it")(real(file), from, amount, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    unsafe {
        if OFF.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_TRUNCATE;
        }
        let mut before = 0;
        real_methods(file).xFileSize.expect("the system has it")(real(file), &raw mut before);
        if before > size {
            remember(file, size, usize::try_from(before - size).expect("a file is small"));
        }
        real_methods(file).xTruncate.expect("the system has it")(real(file), size)
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    unsafe {
        if OFF.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        if let Some(path) = path_of(file) {
            unsynced().remove(path);
        }
        // The system's own sync costs time, and no power is cut in earnest.
        let _ = flags;
        ffi::SQLITE_OK
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe {
        let system = ffi::sqlite3_vfs_find(ptr::null());
        let ours = file.cast::<File>();
        (*ours).base.pMethods = ptr::null();
        (*ours).path = ptr::null_mut();
        let done = (*system).xOpen.expect("the system has it")(system, name, real(file), flags, out);
        if done != ffi::SQLITE_OK {
            return done;
        }
        if !name.is_null() {
            let path = PathBuf::from(CStr::from_ptr(name).to_string_lossy().into_owned());
            *opened().entry(path.clone()).or_default() += 1;
            (*ours).path = Box::into_raw(Box::new(path));
        }
        (*ours).base.pMethods = &raw const METHODS;
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    unsafe {
        if OFF.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_DELETE;
        }
        unsynced().remove(Path::new(&*CStr::from_ptr(name).to_string_lossy()));
        let system = ffi::sqlite3_vfs_find(ptr::null());
        (*system).xDelete.expect("the system has it")(system, name, sync)
    }
}

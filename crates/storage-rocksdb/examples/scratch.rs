#![allow(clippy::print_stdout)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use conclave_storage::*;
use conclave_storage_rocksdb::*;
use std::os::unix::fs::FileExt;

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (rest[11].parse::<f64>().unwrap() + rest[12].parse::<f64>().unwrap()) / 100.0
}
fn fill(batch: &mut WriteBatch, n: u64, size: u64, family: Family) {
    for i in 0..size {
        let mut key = [0u8; 24];
        key[1] = 1; key[2] = 1; key[16..].copy_from_slice(&(n * size + i).to_be_bytes());
        batch.put(family, key, [7u8; 128]);
    }
}
use tempfile as _; fn main() {
    let base = std::env::args().nth(1).unwrap();
    let secs = 5.0;
    for size in [1u64, 64, 256] {
        let dir = tempfile::tempdir_in(&base).unwrap();
        let e = RocksEngine::open(dir.path(), RocksOptions::default()).unwrap();
        let (t, c) = (Instant::now(), cpu());
        let mut n = 0; let mut lat = vec![];
        while t.elapsed().as_secs_f64() < secs {
            let mut b = WriteBatch::new();
            fill(&mut b, n, size, Family::Log);
            e.write(b).unwrap();
            let s = Instant::now();
            e.sync().unwrap();
            lat.push(s.elapsed());
            n += 1;
        }
        lat.sort();
        let el = t.elapsed().as_secs_f64();
        println!("batch {size} + sync: {:.0} puts/s, {:.0} syncs/s, sync p50 {:?} p99 {:?}, cpu/put {:.2} us", (n * size) as f64 / el, n as f64 / el, lat[lat.len() / 2], lat[lat.len() * 99 / 100], (cpu() - c) * 1e6 / (n * size) as f64);
    }
    // writer, apply and syncer beside each other
    {
        let dir = tempfile::tempdir_in(&base).unwrap();
        let e = Arc::new(RocksEngine::open(dir.path(), RocksOptions::default()).unwrap());
        let stop = AtomicBool::new(false);
        let (t, c) = (Instant::now(), cpu());
        let (mut log, mut state) = (0, 0);
        std::thread::scope(|s| {
            let h = s.spawn(|| { let mut n = 0; while !stop.load(Ordering::Relaxed) { let mut b = WriteBatch::new(); fill(&mut b, n, 64, Family::Log); e.write(b).unwrap(); n += 1; } n * 64 });
            let g = s.spawn(|| { let mut n = 0; while !stop.load(Ordering::Relaxed) { let mut b = WriteBatch::new(); fill(&mut b, n, 256, Family::State); e.write(b).unwrap(); n += 1; } n * 256 });
            s.spawn(|| while !stop.load(Ordering::Relaxed) { e.sync().unwrap() });
            std::thread::sleep(std::time::Duration::from_secs_f64(secs));
            stop.store(true, Ordering::Relaxed);
            log = h.join().unwrap(); state = g.join().unwrap();
        });
        let el = t.elapsed().as_secs_f64();
        println!("three threads: log {:.0}/s state {:.0}/s cpu/put {:.2} us {:?}", log as f64 / el, state as f64 / el, (cpu() - c) * 1e6 / (log + state) as f64, e.stats());
    }
    // cost of building the batches
    {
        let t = Instant::now();
        let mut total = 0;
        for n in 0..20_000u64 { let mut b = WriteBatch::new(); fill(&mut b, n, 64, Family::Log); total += b.bytes(); }
        println!("own batch: {:.0} ns/put ({total})", t.elapsed().as_nanos() as f64 / 1_280_000.0);
        let mut b = WriteBatch::new(); fill(&mut b, 1, 64, Family::Log);
        let t = Instant::now();
        for _ in 0..20_000 {
            let mut w = rocksdb::WriteBatch::with_capacity_bytes(20000);
            for op in &b { if let Operation::Put { key, value, .. } = op { w.put(key, value) } }
            total += w.len();
        }
        println!("rocksdb put: {:.0} ns/put ({total})", t.elapsed().as_nanos() as f64 / 1_280_000.0);
        let mut w = rocksdb::WriteBatch::default(); for op in &b { if let Operation::Put { key, value, .. } = op { w.put(key, value) } }
        let data = w.data().to_vec();
        let t = Instant::now();
        for _ in 0..20_000 { let w = rocksdb::WriteBatch::from_data(&data); total += w.len(); }
        println!("rocksdb from_data: {:.0} ns/put ({total})", t.elapsed().as_nanos() as f64 / 1_280_000.0);
        let f = std::fs::File::create(format!("{base}/guard")).unwrap();
        f.write_all_at(&[0; 16], 0).unwrap(); f.sync_all().unwrap();
        let t = Instant::now();
        for i in 0..200_000u64 { let mut r = [0u8; 16]; r[..8].copy_from_slice(&i.to_le_bytes()); f.write_all_at(&r, 0).unwrap(); }
        println!("guard pwrite: {:.0} ns", t.elapsed().as_nanos() as f64 / 200_000.0);
        std::fs::remove_file(format!("{base}/guard")).unwrap();
    }
    // gets and scans
    {
        let dir = tempfile::tempdir_in(&base).unwrap();
        let e = RocksEngine::open(dir.path(), RocksOptions::default()).unwrap();
        for n in 0..2000 { let mut b = WriteBatch::new(); fill(&mut b, n, 64, Family::State); e.write(b).unwrap(); }
        let key = |n: u64| { let mut key = [0u8; 24]; key[1] = 1; key[2] = 1; key[16..].copy_from_slice(&n.to_be_bytes()); key };
        let t = Instant::now();
        for i in 0..200_000u64 { assert!(e.get(Family::State, &key(i * 7919 % 128_000)).unwrap().is_some()); }
        println!("get hit: {:.0} ns", t.elapsed().as_nanos() as f64 / 200_000.0);
        let t = Instant::now();
        for i in 0..200_000u64 { assert!(e.get(Family::State, &key(1_000_000 + i)).unwrap().is_none()); }
        println!("get miss: {:.0} ns", t.elapsed().as_nanos() as f64 / 200_000.0);
        let t = Instant::now();
        let c = e.scan(Family::State, KeyRange { from: vec![0], to: vec![1] }).count();
        println!("scan: {:.0} ns/pair ({c})", t.elapsed().as_nanos() as f64 / c as f64);
        let t = Instant::now();
        for i in 0..50_000u64 { assert!(e.scan(Family::State, KeyRange { from: key(i).to_vec(), to: key(i + 1).to_vec() }).next().is_some()); }
        println!("scan of one pair: {:.0} ns", t.elapsed().as_nanos() as f64 / 50_000.0);
        let e = Arc::new(e);
        let t = Instant::now();
        for _ in 0..200_000 { drop(e.clone().snapshot()); }
        println!("snapshot: {:.0} ns", t.elapsed().as_nanos() as f64 / 200_000.0);
    }
}

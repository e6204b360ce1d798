//! Tests of the spool: records of several partitions come back in their order, in blocks that lead to each other.
#![allow(clippy::unwrap_used)]

use catprune_core::io::spool::Spool;

fn read(spool: &Spool, mut blocks: catprune_core::io::spool::Blocks) -> (usize, Vec<u8>) {
    let (mut count, mut all, mut buffer) = (0, Vec::new(), Vec::new());
    while let Some(records) = spool.read(&mut blocks, &mut buffer).unwrap() {
        count += 1;
        all.extend_from_slice(records);
    }
    (count, all)
}

#[test]
fn partitions_come_back_in_order() {
    let mut spool = Spool::new(&std::env::temp_dir(), 3, 3 * 16).unwrap();
    let mut expected = vec![Vec::new(); 3];
    for number in 0..1000_usize {
        let record = vec![number as u8; 1 + number * 7 % 40];
        spool.push(number * number % 3, &record).unwrap();
        expected[number * number % 3].extend(record);
    }
    for (partition, expected) in expected.iter().enumerate() {
        assert_eq!(spool.bytes(partition), expected.len());
    }
    // Records that come after `take` are in blocks of their own.
    let first = spool.take(1).unwrap();
    spool.push(1, b"later").unwrap();
    spool.flush().unwrap();
    let (count, bytes) = read(&spool, first);
    assert!(count > 100);
    assert_eq!(bytes, expected[1]);
    assert_eq!(read(&spool, spool.blocks(1)), (1, b"later".to_vec()));
    assert_eq!(read(&spool, spool.blocks(0)).1, expected[0]);
    assert_eq!(read(&spool, spool.blocks(2)), (0, Vec::new()));
}

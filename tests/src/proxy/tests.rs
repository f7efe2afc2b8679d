use super::*;
use std::io::{Read as _, Write as _};

/// A server that sends back what it gets, and the proxy before it.
fn echo() -> FaultProxy {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    proxy
}

fn connect(proxy: &FaultProxy) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn answer(stream: &mut std::net::TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    back
}

#[test]
fn answers_are_counted_as_turns() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    for turn in 1..=3 {
        assert_eq!(answer(&mut stream, b"x"), b"x");
        // Counted once it has passed, which is a moment after it can arrive.
        crate::wait::wait_until("a turn is counted", Duration::from_secs(20), || {
            proxy.turns() >= turn
        });
        assert_eq!(proxy.turns(), turn);
    }
}

#[test]
fn bytes_pass_unchanged_and_are_counted() {
    let proxy = echo();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    assert!(answer(&mut connect(&proxy), &bytes) == bytes);
    assert_eq!((proxy.passed(Direction::Up), proxy.accepted()), (200_000, 1));
}

#[test]
fn delay_of_both_ways_makes_the_round_trip() {
    let proxy = echo();
    proxy.delay(Direction::Up, Duration::from_millis(60));
    proxy.delay(Direction::Down, Duration::from_millis(40));
    let start = Instant::now();
    answer(&mut connect(&proxy), b"x");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn rate_limits_what_passes() {
    let proxy = echo();
    proxy.rate(Direction::Down, Some(400_000));
    let start = Instant::now();
    answer(&mut connect(&proxy), &[7; 200_000]);
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn stall_holds_bytes_back_and_loses_none() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    answer(&mut stream, b"before");
    proxy.stall(true);
    stream.write_all(b"during").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    assert!(stream.read(&mut [0; 8]).is_err());
    proxy.stall(false);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"during");
}

#[test]
fn cut_after_passes_exactly_that_many_bytes() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    answer(&mut stream, b"hello");
    proxy.cut_after(Direction::Up, 1000);
    let _ = stream.write_all(&[1; 5000]);
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(proxy.passed(Direction::Up), 1005);
    answer(&mut connect(&proxy), b"a new connection works");
}

#[test]
fn end_after_lets_nobody_in_again_until_told() {
    let proxy = echo();
    proxy.end_after(Direction::Up, 1000);
    let mut stream = connect(&proxy);
    let _ = stream.write_all(&[1; 5000]);
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(!matches!(connect(&proxy).read(&mut [0; 8]), Ok(1..)));
    proxy.refuse(false);
    answer(&mut connect(&proxy), b"again");
}

#[test]
fn cut_and_refusal_are_seen_by_the_client() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    answer(&mut stream, b"hello");
    proxy.cut();
    assert!(!matches!(stream.read(&mut [0; 8]), Ok(1..)));
    proxy.refuse(true);
    let mut refused = connect(&proxy);
    assert!(!matches!(refused.read(&mut [0; 8]), Ok(1..)));
    assert_eq!(proxy.accepted(), 1);
}

//! Every order in which the steps of one who brings work and of observers can follow one another.

use super::*;
use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex};

/// Lets two threads go on in one given order.
#[derive(Debug, Default)]
struct Order {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    whose: usize,
    gone: [bool; 2],
    /// Who goes on at each step at which that is open.
    choices: Vec<usize>,
    made: usize,
}

thread_local! {
    static OWN: RefCell<Option<(Arc<Order>, usize)>> = const { RefCell::new(None) };
}

/// A step is over: whoever is chosen goes on.
pub(super) fn pass() {
    OWN.with_borrow(|own| {
        if let Some((order, number)) = own {
            order.pass(*number);
        }
    });
}

impl Order {
    fn pass(&self, own: usize) {
        let mut turn = self.turn.lock().unwrap();
        if !turn.gone[1 - own] {
            let made = turn.made;
            if made == turn.choices.len() {
                turn.choices.push(0);
            }
            turn.made += 1;
            turn.whose = turn.choices[made];
            self.changed.notify_all();
        }
        while turn.whose != own {
            turn = self.changed.wait(turn).unwrap();
        }
    }

    fn begin(self: &Arc<Self>, own: usize) {
        OWN.set(Some((Arc::clone(self), own)));
        let mut turn = self.turn.lock().unwrap();
        while turn.whose != own {
            turn = self.changed.wait(turn).unwrap();
        }
    }

    fn end(&self, own: usize) {
        let mut turn = self.turn.lock().unwrap();
        turn.gone[own] = true;
        turn.whose = 1 - own;
        self.changed.notify_all();
    }
}

fn sha() -> Sha256 {
    Sha256::of(b"a")
}

/// Observes as the rounds do, without their pauses: looks, and leaves when there is nothing new and nobody has called.
fn observe(state: &Path, seen: &Mutex<bool>) {
    pass();
    let Ok(Some(post)) = Post::take(state, &sha()) else {
        return;
    };
    let shift = async |post: Post| {
        loop {
            pass();
            let work = state.join("work").exists();
            *seen.lock().unwrap() |= work;
            pass();
            if !answer(state) {
                break;
            }
        }
        pass();
        drop(post);
        true
    };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(shifts(state, &sha(), post, shift));
}

/// Brings work as a conversation does: writes it down, and starts an observer where none hears of it.
fn bring(state: &Path, seen: &Mutex<bool>) {
    std::fs::write(state.join("work"), "").unwrap();
    pass();
    if !is_heard(state) {
        observe(state, seen);
    }
}

/// Carries out one order; answers whether somebody saw the work, and the choices that were open.
fn carry_out(choices: Vec<usize>) -> (bool, Vec<usize>) {
    // Nothing of it has to reach a disk.
    let memory = Path::new("/dev/shm");
    let state = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let order = Arc::new(Order::default());
    order.turn.lock().unwrap().choices = choices;
    let seen = Mutex::new(false);
    let roles: [fn(&Path, &Mutex<bool>); 2] = [observe, bring];
    std::thread::scope(|scope| {
        for (number, role) in roles.into_iter().enumerate() {
            let (order, state, seen) = (Arc::clone(&order), state.path(), &seen);
            scope.spawn(move || {
                order.begin(number);
                role(state, seen);
                order.end(number);
            });
        }
    });
    assert!(!card::lives(state.path()));
    let choices = order.turn.lock().unwrap().choices.clone();
    (seen.into_inner().unwrap(), choices)
}

#[test]
fn whatever_is_brought_is_seen_whoever_is_quicker() {
    let mut choices = Vec::new();
    let mut orders = 0;
    loop {
        let (seen, made) = carry_out(choices);
        assert!(seen, "nobody saw it: {made:?}");
        orders += 1;
        // The next one: the last step at which the other may go first.
        let Some(last) = made.iter().rposition(|choice| *choice == 0) else {
            break;
        };
        choices = made;
        choices.truncate(last);
        choices.push(1);
    }
    assert!(orders > 100, "{orders} orders");
}

#[test]
fn a_call_that_cannot_be_left_is_not_heard() {
    let state = tempfile::tempdir().unwrap();
    assert!(!is_heard(state.path()));
    let post = Post::take(state.path(), &sha()).unwrap();
    std::fs::create_dir(path(state.path())).unwrap();
    assert!(!is_heard(state.path()));
    std::fs::remove_dir(path(state.path())).unwrap();
    assert!(is_heard(state.path()) && answer(state.path()) && !answer(state.path()));
    drop(post);
    assert!(!is_heard(state.path()) && !path(state.path()).exists());
}

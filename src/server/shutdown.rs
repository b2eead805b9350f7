//! Leaving: what the loop does at each step of a drain.

use log::{info, warn};

use crate::server::drain::{Step, Told};
use crate::server::{Queue, Server};

impl Server {
    /// Takes in that the process was told to end.
    pub(super) fn told_to_leave(&mut self) {
        match self.drain.tell(self.service.clock.now_ns()) {
            Told::First => {
                let status = format!("finishing {} connections", self.peers.len());
                info!("told to stop: {status}");
                self.overseer.leaves(&status);
                self.service.app.set_unready();
            }
            Told::Again => info!("told again: leaving at once"),
        }
    }

    /// Takes the steps whose time has come; says whether it is time to end.
    pub(super) fn leave(&mut self) -> bool {
        let now_ns = self.service.clock.now_ns();
        while let Some(step) = self.drain.step(now_ns) {
            match step {
                Step::StopAccepting => self.stop_accepting(),
                Step::CloseIdle => self.close_idle(),
                Step::Leave => warn!("out of time: {} connections are cut off", self.peers.len()),
            }
        }
        let is_done = self.drain.is_draining() && self.peers.is_empty() && self.doors.are_left();
        is_done || self.drain.has_left()
    }

    /// Hands the listening sockets over to the other processes on the port, if there are any. They stay open
    /// until this process ends: closing one resets whoever is still in its queue, and another process may
    /// share it, or come to share it yet.
    fn stop_accepting(&mut self) {
        self.doors.release();
        self.doors.suspect_all();
        for key in self.peers.keys() {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.make_next_answer_the_last();
            }
        }
    }

    /// Accepts who waits where nobody else will, as soon as there is a place, and nobody who comes later.
    pub(super) fn accept_the_last(&mut self) {
        for index in 0..self.doors.places() {
            while self.doors.get_mut(index).is_some_and(|door| door.last_accepts > 0)
                && self.accept_from(index)
            {
                if let Some(door) = self.doors.get_mut(index) {
                    door.last_accepts -= 1;
                }
            }
            if let Some(door) = self.doors.get_mut(index)
                && (door.queue == Queue::Empty || door.last_accepts == 0)
            {
                door.queue = Queue::Left;
            }
        }
    }

    /// Closes connections on which nothing is under way, in order: by the end of the stream first.
    fn close_idle(&mut self) {
        for key in self.peers.keys() {
            if self.peers.get_mut(key).is_some_and(crate::server::connection::Peer::close_if_idle) {
                self.give_turn(key);
            }
        }
    }
}

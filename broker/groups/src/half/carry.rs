//! Carrying out a commit, step by step: what is asked of whom next. Whoever runs it does the asking.
//!
//! The messages are written in one transaction, which is known by the producer that it is written with: in version 2 of Kafka's protocol each transaction has an epoch of its
//! own (KIP-890). That producer is stored with the half before anything is written ([`Step::Begin`]). Whoever is not sure what became of the transaction
//! asks for its *abort*: that is done, and then it was not and never will be committed, or it is an invalid state, and then it was.
//!
//! This can be told from the answer because nobody else begins in a transactional id that a half refers to: its number is one machine's ([`Own`]), a machine gives it to one half at a
//! time, and InitProducerId is asked for it once. Where the coordinator of transactions has forgotten the id, unused for `transactional.id.expiration.ms`,
//! or where it is a slot of an earlier version, there is no telling: the half is in doubt, unless it is known that nobody has asked for a commit.

use weir_wire::ErrorCode;

use super::request::{Fate, Identity, Own};
use crate::machine::Producer;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for the abort of this one's transaction; then [`Carrying::aborted`].
    Abort(Identity),
    /// See what is to be written, and where; then [`Carrying::looked`], or [`Carrying::refused`].
    Look,
    /// Ask the machine for an id; then [`Carrying::took`].
    Take,
    /// Ask who writes in this id, which nobody has used; then [`Carrying::given`] or [`Carrying::not_given`].
    Init(u64),
    /// Have this one stored with the half; then [`Carrying::stored`].
    Begin(Identity),
    /// Write as this one; then [`Carrying::written`], [`Carrying::unsure`], or [`Carrying::refused`].
    Write(Identity),
    /// Ask for the commit of this one's transaction; then [`Carrying::committed`], or [`Carrying::unsure`].
    Commit(Identity),
    /// Tell the machine what came of it, and who may begin the next transaction.
    Tell(Fate, Option<Identity>),
}

/// What was answered to a request to abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It is aborted; who writes in the next one.
    Now(Producer),
    /// It was committed before.
    Never,
    /// Neither the one nor the other: the producer or the id is not known.
    Unknown,
}

/// A commit that is carried out.
#[derive(Debug)]
pub struct Carrying {
    step: Step,
    /// Whether the transaction was begun here.
    is_own: bool,
    /// Somebody may have asked for the transaction to be committed.
    may_be_committed: bool,
    /// As whom the next one may be begun, in an id that the machine gave.
    own: Option<Identity>,
    /// The messages cannot be published.
    refusal: Option<(ErrorCode, String)>,
}

impl Carrying {
    /// `begun` is whose transaction may have been begun before, elsewhere or here.
    #[must_use]
    pub fn new(begun: Option<Identity>) -> Self {
        Self {
            step: begun.map_or(Step::Look, Step::Abort),
            is_own: false,
            may_be_committed: begun.is_some(),
            own: None,
            refusal: None,
        }
    }

    /// What is to be done now. What fails without an effect, or may be asked again, is: the step stays.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// What became of the transaction that was begun.
    pub fn aborted(&mut self, answer: Aborted) {
        let Step::Abort(of) = self.step else {
            return;
        };
        match answer {
            Aborted::Never => self.tell(Fate::Published),
            Aborted::Unknown if self.may_be_committed => self.tell(Fate::Unknown),
            Aborted::Unknown => self.after_abort(),
            Aborted::Now(next) => {
                // In another's id somebody may be about to begin.
                if self.is_own {
                    self.go_on(of.number, next);
                }
                self.after_abort();
            }
        }
    }

    fn after_abort(&mut self) {
        self.is_own = false;
        self.may_be_committed = false;
        match self.refusal.take() {
            Some((code, message)) => self.tell(Fate::Refused(code, message)),
            None => self.step = Step::Look,
        }
    }

    /// There is something to be written.
    pub fn looked(&mut self) {
        self.step = self.own.take().map_or(Step::Take, Step::Begin);
    }

    /// The machine has given an id.
    pub fn took(&mut self, own: Own) {
        self.step = match own {
            Own::New(number) => Step::Init(number),
            Own::Used(identity) => Step::Begin(identity),
        };
    }

    /// This one writes in the id that was asked for.
    pub fn given(&mut self, producer: Producer) {
        if let Step::Init(number) = self.step {
            self.step = Step::Begin(Identity { number, producer });
        }
    }

    /// The answer is lost: the request may be carried out at any time later, and fence whom the id was given to meanwhile. Another id is
    /// taken.
    pub fn not_given(&mut self) {
        if let Step::Init(_) = self.step {
            self.step = Step::Take;
        }
    }

    /// Whoever goes on knows of it.
    pub fn stored(&mut self) {
        if let Step::Begin(identity) = self.step {
            self.is_own = true;
            self.may_be_committed = false;
            self.step = Step::Write(identity);
        }
    }

    /// Everything is written.
    pub fn written(&mut self) {
        if let Step::Write(identity) = self.step {
            self.may_be_committed = true;
            self.step = Step::Commit(identity);
        }
    }

    /// The transaction is committed; who writes in the next one.
    pub fn committed(&mut self, next: Producer) {
        if let Step::Commit(identity) = self.step {
            self.go_on(identity.number, next);
            self.tell(Fate::Published);
        }
    }

    /// What was asked of the transaction may be done or not; something is wrong with it, or the answer is lost.
    pub fn unsure(&mut self) {
        if let Step::Write(identity) | Step::Commit(identity) = self.step {
            self.step = Step::Abort(identity);
        }
    }

    /// The messages cannot be published.
    pub fn refused(&mut self, code: ErrorCode, message: String) {
        match self.step {
            Step::Write(identity) => {
                self.refusal = Some((code, message));
                self.step = Step::Abort(identity);
            }
            _ => self.tell(Fate::Refused(code, message)),
        }
    }

    fn go_on(&mut self, number: u64, producer: Producer) {
        let next = Identity { number, producer };
        self.own = next.may_go_on().then_some(next);
    }

    fn tell(&mut self, fate: Fate) {
        self.step = Step::Tell(fate, self.own.take());
    }
}

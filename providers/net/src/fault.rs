//! Steps that a test can make fail, to see that what was done before them is undone.
//!
//! A step stands right after what it names, and its failure is that of the next thing, so that there is something to undo. Nothing of it is
//! compiled into a release build. The step that is to fail is armed per process, and carried to the processes that this one asks to work
//! ([`Fault`]).

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

static ARMED: Mutex<Option<String>> = Mutex::new(None);

/// The step that is armed, to be carried to another process with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fault(Option<String>);

impl Fault {
    /// Returns what is armed here.
    pub fn armed() -> Self {
        if cfg!(debug_assertions) {
            Self(ARMED.lock().unwrap_or_else(PoisonError::into_inner).clone())
        } else {
            Self(None)
        }
    }

    /// Makes a step fail, by its name.
    pub fn at(step: &str) -> Self {
        Self(Some(step.to_owned()))
    }

    /// Arms it in this process, in place of what was; the default disarms.
    pub fn arm(self) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = self.0;
    }

    /// Returns whether there is none, as always outside of tests.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// Fails at the step that is armed.
///
/// # Errors
/// Names the step.
#[inline(always)]
pub fn passed(step: &'static str) -> io::Result<()> {
    if cfg!(debug_assertions) && ARMED.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(step) {
        return Err(io::Error::other(format!("a test wants a failure after {step:?}")));
    }
    Ok(())
}

/// Declares the steps of a crate: an enum, the list of all, and for each the name by which it is armed.
#[macro_export]
macro_rules! fault_steps {
    ($(#[$meta:meta])* $name:ident { $($step:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $text] $step,)*
        }

        impl $name {
            /// Every step, in the order in which they are passed.
            pub const ALL: &'static [Self] = &[$(Self::$step,)*];

            /// Returns the name by which it is armed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$step => $text,)* }
            }

            /// Fails if a test wants that.
            #[inline(always)]
            pub(crate) fn passed(self) -> ::std::io::Result<()> {
                $crate::fault::passed(self.name())
            }
        }
    };
}

fault_steps! {
    /// The steps by which a pod gets its network.
    NetStep {
        Link = "the pod's link",
        HostParameters = "the kernel parameters of the host's end",
        HostRoute = "the host's route and neighbour",
        PodAddress = "the pod's address and routes",
        Carrier = "the link's carrier",
        Hairpin = "the pod's element in the firewall's set",
    }
}

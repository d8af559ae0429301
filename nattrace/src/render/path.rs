//! A journey in one line: the places it came by, where it ended, and where it would have gone on.
//!
//! ```text
//! enp0 ─▶ prerouting ⇒DNAT ─▶ route ─▶ forward ✗ ┄ postrouting
//! ```

use nattrace_core::event::{HookPoint, NetnsId};
use nattrace_core::journey::{DropCause, Journey, Outcome, StepKind};

use super::namespaces::Namespaces;
use super::style::{Role, Span};
use super::text::words;

/// The picture; it is made of words that may be wrapped between.
pub(crate) fn path(journey: &Journey, namespaces: &Namespaces) -> Vec<Span> {
    let mut path = Path { spans: Vec::new(), hook: None, netns: journey.netns.inum, device: None };
    if !namespaces.is_current(journey.netns.inum) {
        let number = journey.netns.inum.to_string();
        path.namespace(namespaces.name_of(&journey.netns).unwrap_or(&number));
    }
    match &journey.iif {
        Some(device) => path.at_device(device),
        None if journey.is_from_this_host() => path.place("this host"),
        None => {}
    }
    for step in &journey.steps {
        if step.netns != path.netns {
            path.netns = step.netns;
            let number = step.netns.to_string();
            path.namespace(namespaces.name(step.netns).unwrap_or(&number));
        }
        match &step.kind {
            StepKind::Hook { hook, .. } => path.in_hook(*hook),
            StepKind::Rule(_) | StepKind::Policy { .. } => {
                if let Some(hook) = step.kind.hook_of_rules() {
                    path.in_hook(hook);
                }
            }
            StepKind::Route { .. } => path.place("route"),
            StepKind::Rewrite { nat, .. } => path.rewritten(nat.name()),
            StepKind::Device { name, .. } => path.at_device(name),
            StepKind::Deliver { protocol, .. } => path.place(protocol),
            StepKind::Connection { .. } | StepKind::Drop(_) => {}
        }
    }
    path.end(journey);
    path.spans
}

struct Path {
    spans: Vec<Span>,
    /// The hook that the packet is in.
    hook: Option<HookPoint>,
    netns: NetnsId,
    /// The device that was told last, while the packet is at it.
    device: Option<String>,
}

impl Path {
    fn place(&mut self, name: &str) {
        if !self.spans.is_empty() {
            self.spans.push(Span::new(Role::Plain, " "));
            self.spans.push(Span::new(Role::Faint, "─▶"));
            self.spans.push(Span::new(Role::Plain, " "));
        }
        self.spans.push(Span::new(Role::Label, name));
        (self.hook, self.device) = (None, None);
    }

    fn namespace(&mut self, name: &str) {
        self.place(&format!("[{name}]"));
        if let Some(place) = self.spans.last_mut() {
            place.role = Role::Title;
        }
    }

    fn at_device(&mut self, name: &str) {
        if self.device.as_deref() != Some(name) {
            self.place(name);
            self.device = Some(name.to_owned());
        }
    }

    /// Hooks of several families stand at one place.
    fn in_hook(&mut self, hook: HookPoint) {
        if self.hook != Some(hook) {
            self.place(hook.name());
            self.hook = Some(hook);
        }
    }

    fn rewritten(&mut self, nat: &str) {
        self.spans.push(Span::new(Role::Nat, format!(" ⇒{}", nat.to_uppercase())));
    }

    fn end(&mut self, journey: &Journey) {
        if let Outcome::Dropped(
            DropCause::Rule { hook: Some(hook), .. } | DropCause::Policy { hook: Some(hook), .. },
        ) = &journey.outcome
        {
            self.in_hook(*hook);
        }
        if let Outcome::Transmitted { device: Some(device) } = &journey.outcome {
            self.at_device(device);
        }
        let (role, ending) = words::ending(&journey.outcome);
        let sign = ending.split(' ').next().unwrap_or_default();
        self.spans.push(Span::new(role, format!(" {sign}")));
        if matches!(journey.outcome, Outcome::Dropped(_)) {
            for place in self.ahead() {
                self.spans.push(Span::new(Role::Faint, format!(" ┄ {place}")));
            }
        }
    }

    /// Where a packet that was dropped would have gone on for certain.
    fn ahead(&self) -> &'static [&'static str] {
        match self.hook {
            Some(HookPoint::Prerouting) => &["route"],
            Some(HookPoint::Forward | HookPoint::Output) => &["postrouting"],
            _ => &[],
        }
    }
}

//! What must hold when an output leaves, when a node goes live, and in every state.

use super::*;

impl World {
    pub fn release(&mut self, i: u8) -> Result<(), String> {
        let now = self.now[usize::from(i)];
        let Node::Primary { p, .. } = &mut self.nodes[usize::from(i)] else {
            return Ok(());
        };
        let epoch = p.epoch();
        let Some(o) = p.next_output(now) else {
            return Ok(());
        };
        // I7, N2.
        let r = self.arbiter.value().ok_or("N2: emitted without a register")?;
        if r.epoch == epoch && r.primary != p.config().me {
            return Err(format!(
                "N2: node {i} emits in epoch {epoch}, which is not its own"
            ));
        }
        if self.emitted.iter().any(|(e, n)| *e == epoch && *n != i) {
            return Err(format!("I7: two nodes emitted in epoch {epoch}"));
        }
        if !self.emitted.contains(&(epoch, i)) {
            self.emitted.push((epoch, i));
        }
        // I3: whatever left before and whatever leaves now is one history.
        if !agree(&self.seen, &o.bytes) {
            return Err(format!("I3: {:?} left after {:?} had left", o.bytes, self.seen));
        }
        if o.bytes.len() > self.seen.len() {
            self.seen.clone_from(&o.bytes);
        }
        // N4: also what an old epoch releases late.
        for n in &self.nodes {
            if let Node::Primary { p, history, .. } = n
                && p.epoch() > epoch
                && p.phase() != primary::Phase::Fenced
                && !history.starts_with(&o.bytes)
            {
                return Err(format!(
                    "N4: epoch {epoch} released {:?}, epoch {} has {history:?}",
                    o.bytes,
                    p.epoch()
                ));
            }
        }
        Ok(())
    }

    pub fn live(&mut self, i: u8) -> Result<(), String> {
        let now = self.now[usize::from(i)];
        let Node::Backup { b, replayed, .. } = &mut self.nodes[usize::from(i)] else {
            return Ok(());
        };
        let history = replayed.take().unwrap_or_default();
        b.step(
            now,
            backup::Input::Replayed { at: time(&history) },
            &mut Vec::new(),
        );
        let Some(p) = b.clone().into_primary() else {
            return Err("a replayed backup is not live".to_owned());
        };
        // N3: nobody promotes itself but by the register.
        if self.arbiter.value().is_none_or(|r| r.primary != p.config().me) {
            return Err(format!("N3: node {i} promoted itself without the register"));
        }
        // I3, N4.
        if !history.starts_with(&self.seen) {
            return Err(format!(
                "N4: {:?} had left, the new primary has {history:?}",
                self.seen
            ));
        }
        self.nodes[usize::from(i)] = Node::Primary {
            p,
            history,
            base: 0,
            stop: 0,
        };
        Ok(())
    }

    /// Rules about a state.
    pub fn check(&self) -> Result<(), String> {
        let Some(r) = self.arbiter.value() else {
            return Ok(());
        };
        for n in &self.nodes {
            match n {
                Node::Down => {}
                // N1: a member of the set holds all that has left.
                Node::Backup { b, history, replayed } => {
                    if !r.set.contains(&b.config().me) || b.phase() == backup::Phase::Lost {
                        continue;
                    }
                    let held = b.holds().map_or(0, |m| m.at.e);
                    // A switchover that the register shows to be called off is forgotten before it is used.
                    let last = b.finale().filter(|_| b.epoch() == r.epoch);
                    let until = last.map_or(held, |t| t.e);
                    let h = match replayed {
                        Some(h) => h.clone(),
                        None => replay(history, b.log(), 0, until),
                    };
                    if !h.starts_with(&self.seen) {
                        return Err(format!("N1: {:?} has left, a member holds {h:?}", self.seen));
                    }
                }
                // I3: it says protected only if the backup may take over.
                Node::Primary { p, .. } => {
                    if r.primary == p.config().me
                        && p.phase() == primary::Phase::Prot
                        && !p.backup().is_some_and(|(m, _)| r.set.contains(&m))
                    {
                        return Err(format!("I3: says protected, but the set is {:?}", r.set));
                    }
                }
            }
        }
        Ok(())
    }
}

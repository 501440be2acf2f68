"""The learner: trains a policy on scored trees, with an optimizer and a reference. It does not know how they were sampled."""

from collections.abc import Sequence

from arpo.distributed.sharding import load_sharded
from arpo.distributed.world import ALONE, World
from arpo.training.config import RlRun
from arpo.training.credit import assign_credit, node_credit
from arpo.training.optimizer import SkippedUpdates, build_optimizer, scheduled_rate
from arpo.training.reference import Reference
from arpo.training.shaping import shape_rewards
from arpo.training.step_metrics import measure_shaping, measure_update
from arpo.training.update import compute_logprobs, make_minibatches, update_policy
from arpo.tree import RolloutTree


class Learner:
    """Trains one policy; `learn` has the phases of an update in order."""

    def __init__(self, config: RlRun, world: World = ALONE):
        """Load the policy that `config.model` names, and the reference where the loss has a KL term.

        Args:
            config: Its model, optimizer, advantage, loss, batching and limits are used.
            world: Ranks that learn together, each from its share of the trees.

        Raises:
            ConfigError, ModelError: the model or its adapter cannot be loaded; see each message.
        """
        self.config = config
        self.world = world
        needs_layout = config.batching.packing == "tree"
        trained = load_sharded(config.model, config.seed, self.world, config.rollout.temperature, needs_layout=needs_layout)
        self.policy, self.sharding = trained
        self.optimizer = build_optimizer(self.policy, config.optimizer, config.model.path)
        self.reference = Reference(config, self.policy, self.world) if config.loss.kl.coefficient else None
        self.sharding.gather()
        self.num_updates = 0
        """Finished optimizer updates, empty and skipped ones included; the learning rate schedule depends on it."""
        self.skipped = SkippedUpdates()

    def learn(self, trees: Sequence[RolloutTree]) -> dict[str, float]:
        """Update the policy on scored trees; return the `train/` metrics.

        Advantages per leaf and node (each tree's `credit` says what became of them), packed batches, old and reference
        log-probs, then `updates_per_step` times `epochs_per_step` optimizer updates.

        Raises:
            TrainingError: ten updates in a row had a gradient that is not finite.
        """
        with self.sharding.scattered():
            return self._learn(trees)

    def _learn(self, trees: Sequence[RolloutTree]) -> dict[str, float]:
        config, reference, longest = self.config, self.reference, self.config.agent.limits.max_trajectory_tokens
        reward_kl = reference.reward_kl(trees) if reference is not None and config.loss.kl.is_in_reward else None
        kl_sums = reward_kl.leaf_sums if reward_kl is not None else None
        rewards = shape_rewards(trees, config.overlong, config.loss.kl, max_tokens=longest, kl_sums=kl_sums)
        costs = reward_kl.token_costs(config.loss.kl) if reward_kl is not None else None
        credits = assign_credit(trees, config.advantage, config.loss, rewards=rewards, token_costs=costs, max_tokens=longest)
        for tree, credit in zip(trees, credits, strict=True):
            tree.credit = node_credit(tree, credit)
        minibatches = make_minibatches(trees, credits, config, self.policy.device, self.world)
        rates = self._next_rates()
        for minibatch in minibatches:
            if len(rates) > 1:
                minibatch.old = compute_logprobs(self.policy, minibatch.batches)
            if reference is not None and config.loss.kl.is_in_loss:
                minibatch.reference = reference.logprobs(minibatch.batches)
        totals = update_policy(self.policy, self.optimizer, minibatches, rates, config, self.skipped, self.world)
        self.num_updates += len(rates)
        metrics = measure_update(totals, credits, config) | measure_shaping(trees, rewards, reward_kl, config)
        return metrics | {"train/learning_rate": rates[-1]}

    def go_on_from(self, num_updates: int, num_skipped: int) -> None:
        """Resume after `num_updates` updates, the last `num_skipped` of them skipped; a checkpoint has the weights."""
        self.num_updates, self.skipped = num_updates, SkippedUpdates(num_skipped)

    def _next_rates(self) -> list[float]:
        """The learning rate of each update of the step."""
        config = self.config
        per_step = config.updates_per_step * config.epochs_per_step
        updates = range(self.num_updates, self.num_updates + per_step)
        num_steps = config.optimizer.schedule_steps or config.num_steps
        return [scheduled_rate(config.optimizer, update, num_steps * per_step) for update in updates]

"""SIM and SIMV over the database, with nvecd's checks, modes and messages."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from recollect.compat.nvecd.config.settings import SimilaritySettings
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol.parse import check_top_k
from recollect.database import Database, FusionOptions, SimilarMatch
from recollect.database.filter import Condition, accepts
from recollect.database.fusion import combine, weights
from recollect.errors import NotFoundError, RequestError
from recollect.values.payload import encode_payload

Found = list[tuple[str, float]]
_FETCH_FACTOR = 3


class Searcher:
    """Runs searches. Safe to share between threads."""

    def __init__(self, database: Database, settings: SimilaritySettings) -> None:
        self._database = database
        self._settings = settings
        self._fusion = FusionOptions(
            alpha=settings.fusion_alpha,
            beta=settings.fusion_beta,
            max_top_k=settings.max_top_k,
            adaptive=settings.adaptive_fusion,
            adaptive_min_alpha=settings.adaptive_min_alpha,
            adaptive_max_alpha=settings.adaptive_max_alpha,
            adaptive_maturity_threshold=settings.adaptive_maturity_threshold,
        )

    def check(self, command: cmd.Search) -> None:
        """Refuse a search that cannot be run.

        Raises:
            RequestError, NotFoundError: In nvecd's words.
        """
        check_top_k(command.top_k, self._settings.max_top_k)
        if isinstance(command, cmd.Sim):
            if command.mode != "events" and command.item not in self._database.vectors:
                raise NotFoundError(f"Query vector not found: {command.item}")
            return
        dimension = self._database.vectors.dimension
        if dimension is not None and len(command.vector) != dimension:
            raise RequestError(
                f"Query vector dimension mismatch: expected {dimension}, got {len(command.vector)}"
            )
        norm = math.sqrt(math.fsum(element * element for element in command.vector))
        if not norm or not math.isfinite(norm):
            raise RequestError("Query vector norm must be finite and non-zero")

    def run(self, command: cmd.Search) -> Found:
        """Return items and scores, best first, at most `top_k`. `min_score` is not applied."""
        if isinstance(command, cmd.Simv):
            return self._near(command.vector, command.top_k, command.conditions)
        if command.mode == "events":
            return [(one.id, one.score) for one in self._by_events(command, command.top_k)]
        if command.mode == "vectors":
            return [(one.id, one.score) for one in self._by_vectors(command, command.top_k)]
        return self._fused(command)

    def _fused(self, command: cmd.Sim) -> Found:
        options = self._fusion
        if command.adaptive is not None and command.adaptive != options.adaptive:
            options = msgspec.structs.replace(options, adaptive=command.adaptive)
        fetch = max(1, min(_FETCH_FACTOR * command.top_k, options.max_top_k))
        alpha, beta = weights(options, neighbor_count=self._database.events.neighbor_count(command.item))
        by_vector, by_event = self._by_vectors(command, fetch), self._by_events(command, fetch)
        found = combine(by_vector, by_event, alpha=alpha, beta=beta)
        return [(one.id, one.score) for one in found[: command.top_k]]

    def _by_vectors(self, command: cmd.Sim, count: int) -> list[SimilarMatch]:
        record = self._database.vectors.get(command.item)
        if record is None:
            raise NotFoundError(f"Query vector not found: {command.item}")
        matches = self._database.vectors.search(
            record.vector, count, list(command.conditions) or None, exclude=command.item
        )
        return [SimilarMatch(str(match.id), match.score) for match in matches]

    def _by_events(self, command: cmd.Sim, count: int) -> list[SimilarMatch]:
        events = self._database.events
        wanted = count if not command.conditions else max(count, events.neighbor_count(command.item))
        found: list[SimilarMatch] = []
        for match in events.similar(command.item, max(1, wanted)):
            if len(found) == count:
                break
            if self._meets(match.id, command.conditions):
                found.append(SimilarMatch(match.id, match.score))
        return found

    def _meets(self, item: str, conditions: tuple[Condition, ...]) -> bool:
        if not conditions:
            return True
        record = self._database.vectors.get(item)
        metadata = None if record is None or record.metadata is None else encode_payload(record.metadata)
        return accepts(conditions, metadata)

    def _near(self, vector: tuple[float, ...], count: int, conditions: tuple[Condition, ...]) -> Found:
        query = np.array(vector, dtype=np.float32)
        matches = self._database.vectors.search(query, count, list(conditions) or None)
        return [(str(match.id), match.score) for match in matches]

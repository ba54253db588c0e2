"""A cloud that refuses is no network failure: nobody waits for five attempts, and the advice is another."""

from __future__ import annotations

import pytest
from obstore.exceptions import GenericError

from recollect.errors import AccessError, UnavailableError
from recollect.storage.cloud import _reporting


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refusal_without_credentials_is_one_of_access(status: str) -> None:
    with pytest.raises(AccessError, match=status), _reporting("cannot read x"):
        raise GenericError(
            f"Generic S3 error: Error performing GET: Server returned status code: {status}: no"
        )


def test_an_overloaded_service_stays_unavailable() -> None:
    with pytest.raises(UnavailableError), _reporting("cannot read x"):
        raise GenericError("Generic S3 error: Server returned status code: 503 Service Unavailable")

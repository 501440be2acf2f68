"""Addresses a page may be fetched from: the public internet, and hosts allowed by name."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from arpo.clients.http import HttpError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def resolve(host: str, port: int, allowed_hosts: Sequence[str]) -> list[IpAddress]:
    """The addresses to connect to for a host name, in the order to try them.

    The name is looked up once and the caller connects to the returned addresses, so that a name whose address changes between
    the check and the connection (DNS rebinding) gains nothing. A name with any address that is not public is refused.

    Args:
        host: a name or an address, in any spelling the system understands.
        port: port of the service.
        allowed_hosts: names that may resolve to any address.

    Raises:
        HttpError: the name does not resolve, or resolves to a refused address.
    """
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HttpError(f"{host}: no such host ({error})") from None
    addresses = list(dict.fromkeys(ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in infos))
    if not addresses:
        raise HttpError(f"{host}: no such host")
    if host.lower().rstrip(".") not in {name.lower() for name in allowed_hosts}:
        for address in addresses:
            if not is_public(address):
                raise HttpError(f"{host}: refused: it resolves to {address}, which is not an address of the public internet")
    return addresses


def is_public(address: IpAddress) -> bool:
    """True when an address belongs to the public internet.

    The wrapped address decides for an IPv6 address that wraps an IPv4 one (mapped, or translated by NAT64). Tunnels (6to4,
    Teredo) are not public: their target is unknown.

    Example:
        is_public(ipaddress.ip_address("::ffff:127.0.0.1"))  # -> False
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved

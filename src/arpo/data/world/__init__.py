"""The synthetic offline domain: a seeded world of people, companies and cities, its documents and its questions."""

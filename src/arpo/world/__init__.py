"""The offline domain: a seeded world of people, companies and cities, its documents, questions, demonstrations and policy."""

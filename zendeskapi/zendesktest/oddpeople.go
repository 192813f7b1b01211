package zendesktest

import "time"

// The fields of a profile that hold numbers, where Config.OddPeople is set.
const (
	MobileField     = "mobile"      // text
	OtherPhoneField = "other_phone" // text
)

// The people that [Config.OddPeople] adds. Treat them as constants. Where it is
// not said otherwise a number is on the profile and a direct line: an identity
// of its own.
var (
	// OddFormats are people whose numbers are written as nobody would dial them.
	OddFormats = []Person{
		{ID: 45_900_000_000_301, Name: "Pia Parentheses", Email: "pia.parentheses@example.com", Phone: "+1 (513) 555-7701"},
		{ID: 45_900_000_000_302, Name: "Ed Extension", Email: "ed.extension@example.com", Phone: "513.555.7702 ext 4"},
		{ID: 45_900_000_000_303, Name: "Tom Trunkzero", Email: "tom.trunkzero@example.com", Phone: "0049 (0)30 901830"},
		{ID: 45_900_000_000_304, Name: "Sina Slash", Email: "sina.slash@example.com", Phone: "030/901831"},
		{ID: 45_900_000_000_305, Name: "Uri Link", Email: "uri.link@example.com", Phone: "tel:+1-513-555-7703;ext=12"},
		{ID: 45_900_000_000_306, Name: "Inga Invisible", Email: "inga.invisible@example.com", Phone: "\u202a+1\u00a0513\u00a0555\u20117704\u202c"},
		{ID: 45_900_000_000_307, Name: "Max München", Email: "max.muenchen@example.com", Phone: "+49 (0) 89 / 123 456-78"},
		{ID: 45_900_000_000_308, Name: "Dial Out", Email: "dial.out@example.com", Phone: "011 44 20 7946 0020"},
		{ID: 45_900_000_000_309, Name: "Sip Address", Email: "sip.address@example.com", Phone: "sip:+15135557706@pbx.example"},
		{ID: 45_900_000_000_310, Name: "Pierre Paris", Email: "pierre.paris@example.com", Phone: "+33 (0)1 99 00 12 34"},
		{ID: 45_900_000_000_311, Name: "Sue Sydney", Email: "sue.sydney@example.com", Phone: "(02) 5550 0123"},
		{ID: 45_900_000_000_312, Name: "Rita Roma", Email: "rita.roma@example.com", Phone: "+39 06 9876 5432"},
		{ID: 45_900_000_000_313, Name: "Mila Moskva", Email: "mila.moskva@example.com", Phone: "8 (495) 555-12-34"},
		{ID: 45_900_000_000_314, Name: "Pat Pause", Email: "pat.pause@example.com", Phone: "15135557709,,12#"},
		{ID: 45_900_000_000_315, Name: "Tess Two", Email: "tess.two@example.com", Phone: "513-555-7707 or 513-555-7708"},
		{ID: 45_900_000_000_316, Name: "Vera Vanity", Email: "vera.vanity@example.com", Phone: "1-800-FLOWERS"},
		{ID: 45_900_000_000_317, Name: "Manny Mobile", Email: "", Phone: "0044 7700 900123"},
		{ID: 45_900_000_000_318, Name: "Ask Reception", Email: "ask.reception@example.com", Phone: "via reception"},
	}
	// Stranger has another number than OddFormats[1], in another country, that
	// ends in the same ten digits.
	Stranger = Person{ID: 45_900_000_000_321, Name: "Sven Suffix", Email: "sven.suffix@example.com", Phone: "+49 1513 5557702"}

	// SharedLine are people with one number, written in three ways, which is the
	// direct line of none. The first has a solved ticket, changed last of all, the
	// second an open one ([SharedLineTickets]), the third has none.
	SharedLine = []Person{
		{ID: 45_900_000_000_331, Name: "Frank Family", Email: "frank.family@example.com", Phone: "+1 513-555-7720"},
		{ID: 45_900_000_000_332, Name: "Fiona Family", Email: "fiona.family@example.com", Phone: "(513) 555-7720"},
		{ID: 45_900_000_000_333, Name: "Felix Family", Email: "", Phone: "513 555 7720"},
	}
	// Noted has the number 513 555 7731 in the notes, which is nobody's, and that
	// of OddFormats[0]; Detailed has the first in the details. Neither has one of
	// their own.
	Noted    = Person{ID: 45_900_000_000_341, Name: "Nick Noted", Email: "nick.noted@example.com"}
	Detailed = Person{ID: 45_900_000_000_342, Name: "Dana Detailed", Email: "dana.detailed@example.com"}
	// Fielded has a number in [MobileField], digits behind a plus sign, and
	// FieldedOddly one with punctuation in [OtherPhoneField], where no search of
	// that field for its digits finds it.
	Fielded      = Person{ID: 45_900_000_000_343, Name: "Fred Fielded", Email: "fred.fielded@example.com"}
	FieldedOddly = Person{ID: 45_900_000_000_344, Name: "Gina Fielded", Email: "gina.fielded@example.com"}

	// Suspended is the only one of her number; SuspendedTwin shares his with the
	// one who is not.
	Suspended     = Person{ID: 45_900_000_000_351, Name: "Susi Suspended", Email: "susi.suspended@example.com", Phone: "+1 513-555-7741"}
	SuspendedTwin = Person{ID: 45_900_000_000_352, Name: "Lou Living", Email: "lou.suspended@example.com", Phone: "+1 513-555-7742"}
	LivingTwin    = Person{ID: 45_900_000_000_353, Name: "Lou Living", Email: "lou.living@example.com", Phone: "(513) 555-7742"}
	// Merged went into Survivor, who has his number and address besides her own.
	// Deleted can be read by id (active: false), and is not found.
	Merged   = Person{ID: 45_900_000_000_354, Name: "Mel Merged", Email: "mel.merged@example.com", Phone: "+1 513-555-7751"}
	Survivor = Person{ID: 45_900_000_000_355, Name: "Mel Survivor", Email: "mel.survivor@example.com", Phone: "+1 513-555-7752"}
	Deleted  = Person{ID: 45_900_000_000_356, Name: "Del Deleted", Email: "del.deleted@example.com", Phone: "+1 513-555-7753"}

	// Manifold is known by three addresses and, besides the number on the profile,
	// "+44 7700 900456" and "0151 / 23456789"; the last of each are not verified.
	Manifold = Person{ID: 45_900_000_000_361, Name: "Mona Manifold", Email: "mona.manifold@example.com", Phone: "+1 513-555-7761"}
	// LineOnly has a direct line and none on the profile, ProfileOnly the reverse.
	LineOnly    = Person{ID: 45_900_000_000_362, Name: "Lina Lineonly", Email: "lina.lineonly@example.com"} // +1 513-555-7762
	ProfileOnly = Person{ID: 45_900_000_000_363, Name: "Paul Profileonly", Email: "paul.profileonly@example.com", Phone: "+1 513-555-7763"}
	// Numbered has an external_id that is a number in JSON: 200177.
	Numbered = Person{ID: 45_900_000_000_364, Name: "Nora Numbered", Email: "nora.numbered@example.com", Phone: "+1 513-555-7764"}
	// Unverified is known by a number alone, as whom a first call made.
	Unverified = Person{ID: 45_900_000_000_365, Name: "Caller +1 513-555-7765", Phone: "+1 513-555-7765"}
)

// SharedLineTickets are those of [SharedLine]: the solved one and the open one,
// whose last audit is the system's (author -1), with an event of a type that is
// new.
var SharedLineTickets = []int64{45_900_000_001_301, 45_900_000_001_302}

// seedOddPeople adds the people of [Config.OddPeople].
func (s *seeding) seedOddPeople() {
	made := 5_000 // hours ago
	odd := func(p Person, change func(u *user, created time.Time)) {
		made -= 10
		created := s.ago(made)
		u := s.person(p, roleEndUser, created)
		if p.Email == "" {
			u.Verified = false
		}
		change(&u, created)
		s.z.putUser(u, s.now)
	}
	as := func(p Person) { odd(p, func(*user, time.Time) {}) }
	// On the profile alone: Zendesk keeps no line that is shared, or no number.
	unlisted := func(p Person, shared *bool) {
		number := p.Phone
		p.Phone = ""
		odd(p, func(u *user, _ time.Time) { u.Phone, u.SharedPhoneNumber = &number, shared })
	}

	for _, p := range OddFormats {
		if digits(p.Phone) == "" {
			unlisted(p, nil)
			continue
		}
		as(p)
	}
	as(Stranger)
	for _, p := range SharedLine {
		unlisted(p, new(true))
	}
	odd(Noted, func(u *user, _ time.Time) {
		u.Notes = new("His sister answers at (513) 555-7731, never +1 (513) 555-7701.")
	})
	odd(Detailed, func(u *user, _ time.Time) { u.Details = new("Number until 2024: 5135557731") })
	odd(Fielded, func(u *user, _ time.Time) { u.UserFields[MobileField] = "+15135557771" })
	odd(FieldedOddly, func(u *user, _ time.Time) { u.UserFields[OtherPhoneField] = "(513) 555-7772" })
	for _, p := range []Person{Suspended, SuspendedTwin} {
		odd(p, func(u *user, _ time.Time) { u.Suspended = true })
	}
	as(LivingTwin)
	for _, p := range []Person{Merged, Survivor, Deleted} {
		as(p)
	}
	loser, _ := s.z.users.get(Merged.ID)
	winner, _ := s.z.users.get(Survivor.ID)
	s.z.mergeUser(loser, winner, s.ago(made))
	deleted, _ := s.z.users.get(Deleted.ID)
	s.z.removeUser(deleted, 0, s.ago(made))

	odd(Manifold, func(u *user, created time.Time) {
		for _, i := range []struct{ kind, value string }{
			{"email", "mona@home.example"}, {"email", "mona@old.example"},
			{"phone_number", "+44 7700 900456"}, {"phone_number", "0151 / 23456789"},
		} {
			s.z.identify(u, i.kind, i.value, created)
			last := &u.identities[len(u.identities)-1]
			last.Verified = i.value != "mona@old.example" && i.value != "0151 / 23456789"
		}
	})
	odd(LineOnly, func(u *user, created time.Time) { s.z.identify(u, "phone_number", "+1 513-555-7762", created) })
	unlisted(ProfileOnly, nil)
	odd(Numbered, func(u *user, _ time.Time) { u.ExternalID = &outsideID{value: "200177", number: true} })
	as(Unverified)

	frank, _ := s.z.users.get(SharedLine[0].ID)
	fiona, _ := s.z.users.get(SharedLine[1].ID)
	s.tell(story{
		id: SharedLineTickets[0], requester: frank, agent: Agent.ID, status: "solved", priority: "normal", kind: "question",
		subject: "Which router fits", said: []string{"Which router do we need?", "The small one."}, created: s.ago(40), step: time.Hour,
	})
	s.tell(story{
		id: SharedLineTickets[1], requester: fiona, agent: OtherAgent.ID, status: "open", priority: "high", kind: "incident",
		subject: "No signal on the second floor", said: []string{"The signal ends at the stairs."}, created: s.ago(60), step: time.Hour,
	})
	system := s.audit(SharedLineTickets[1], -1, s.ago(59), "rule")
	system.Events = append(system.Events, object{"id": s.z.newID(), "type": "RoutingHint", "value": object{"queue": nil, "weight": 0.5}})
	s.z.audits[SharedLineTickets[1]] = append(s.z.audits[SharedLineTickets[1]], system)
}
